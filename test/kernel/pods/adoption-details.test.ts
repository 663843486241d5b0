// What is found out about a pod that was adopted, and about one that nobody can look into.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { type CniNode, fetchFrom, serveName, withCniNode, withOutsideClient } from '../../lab/cni-node.ts';
import { addressOf, hostPort, withOldNode } from '../../lab/old-node.ts';
import { waitFor } from '../../lab/wait.ts';

/** The rates of a device's root and of the one that it leads what it receives to. */
async function rates(node: CniNode, veth: string): Promise<(string | undefined)[]> {
  const shown = await node.namespace.exec('tc', ['qdisc', 'show']);
  const filter = await node.namespace.exec('tc', ['filter', 'show', 'dev', veth, 'ingress']);
  const ifb = /Redirect to device (\w+)/.exec(filter)?.[1];
  return [veth, ifb].map(
    (device) => new RegExp(`tbf .* dev ${device} root .* rate (\\S+) burst`).exec(shown)?.[1],
  );
}

async function loseLimits(node: CniNode, veth: string): Promise<void> {
  await node.namespace.exec('tc', ['qdisc', 'del', 'dev', veth, 'root']);
  await node.namespace.exec('tc', ['qdisc', 'del', 'dev', veth, 'ingress']);
  await node.stopServer();
  await node.startServer();
}

test('limits of a pod whose record was lost are known again: put right when they go, gone after DEL', async () => {
  await withCniNode(async (node) => {
    const bandwidth = { ingressRate: 8_000_000, ingressBurst: 800_000, egressRate: 16_000_000 };
    const { call, result } = await node.added({ config: { runtimeConfig: { bandwidth } } });
    const veth = result.interfaces[1].name;
    await node.killAndForgetPods();
    await node.startServer();
    const [record] = await node.records();
    assert.deepEqual(record?.bandwidth, { ...bandwidth, egressBurst: 800_000 });
    assert.deepEqual(await rates(node, veth), ['8Mbit', '16Mbit']);
    await loseLimits(node, veth);
    await waitFor('the limits to be back', async () => (await rates(node, veth)).join() === '8Mbit,16Mbit');
    assert.equal((await call('DEL')).status, 0);
    assert.doesNotMatch(await node.namespace.exec('ip', ['link']), /ifb|veth/);
  });
});

test("the bandwidth plugin's limits are adopted with its device, put right, and gone after DEL", async () => {
  const limits = {
    ingressRate: 8_000_000,
    ingressBurst: 800_000,
    egressRate: 16_000_000,
    egressBurst: 1_600_000,
  };
  await withOldNode(
    async ({ node, add }) => {
      const old = await add('old');
      await node.startServer();
      const [record] = await node.records();
      assert.deepEqual(record?.bandwidth, limits);
      assert.match(record?.ifb ?? '', /^bwp/);
      const veth = record!.hostVeth;
      assert.deepEqual(await rates(node, veth), ['8Mbit', '16Mbit']);
      await loseLimits(node, veth);
      await waitFor('the limits to be back', async () => (await rates(node, veth)).join() === '8Mbit,16Mbit');
      assert.equal((await node.call('DEL', { containerId: 'old', netns: old.netns })).status, 0);
      assert.doesNotMatch(await node.namespace.exec('ip', ['link']), /bwp|ifb|veth/);
    },
    { bandwidth: limits },
  );
});

test("the portmap plugin's options are adopted: its conditions are not widened by our rules", async () => {
  await withOldNode(
    async ({ node, add, natTable }) => {
      await node.namespace.ip(
        'link add eth0 type bridge',
        'addr add 192.0.2.1/24 dev eth0',
        'link set eth0 up',
      );
      await node.namespace.ip('addr add 192.0.2.2/24 dev eth0');
      const old = await add('old', hostPort(8080));
      await serveName(old.namespace, 'old', 80);
      const answers = async (): Promise<(string | undefined)[]> => [
        await fetchFrom(node.namespace, '192.0.2.1', 8080),
        await fetchFrom(node.namespace, '192.0.2.2', 8080),
      ];
      const before = await answers();
      assert.deepEqual(before, ['old', undefined]);
      await node.startServer();
      const [record] = await node.records();
      assert.deepEqual(record?.hostPortOptions, { snat: false, conditionsV4: ['!', '-d', '192.0.2.2/32'] });
      await waitFor('our rules', async () => /TWILL-HP-/.test(await natTable()));
      assert.deepEqual(await answers(), before);
    },
    { portmap: { snat: false, conditionsV4: ['!', '-d', '192.0.2.2'] } },
  );
});

test('our own options of host ports are known again after the state directory was lost', async () => {
  await withOutsideClient(async (node) => {
    for (const [at, options] of [{ snat: false }, { masqAll: true }, { markMasqBit: 4 }, {}].entries())
      await node.added({ config: { ...options, runtimeConfig: hostPort(8080 + at) } });
    const known = async () =>
      (await node.records()).map(({ containerId, hostPortOptions }) => [containerId, hostPortOptions]);
    const before = await known();
    await node.killAndForgetPods();
    await node.startServer();
    assert.deepEqual((await known()).sort(), before.sort());
  });
});

test('what a configuration wanted of a pod is known again after the state directory was lost', async () => {
  await withCniNode(async (node) => {
    for (const config of [
      { macspoofchk: true, portIsolation: true, ipMasq: false },
      { bridge: 'br1', isGateway: false, promiscMode: true, ipMasq: true },
      {},
    ])
      await node.added({ config });
    const known = async () =>
      (await node.records()).map(({ containerId, spoofCheck, isolated, promiscuous, gateway, ipMasq }) =>
        JSON.stringify({ containerId, spoofCheck, isolated, promiscuous, gateway, ipMasq }),
      );
    const before = await known();
    assert.match(before.join(), /"spoofCheck":true,"isolated":true,"ipMasq":false/);
    await node.killAndForgetPods();
    await node.startServer();
    assert.deepEqual((await known()).sort(), before.sort());
    await node.added({ config: { macspoofchk: true } });
    const table = await node.namespace.exec('nft', ['list', 'table', 'bridge', 'twill-macspoofchk']);
    assert.equal(table.match(/"veth[0-9a-f]+" \. /g)?.length, 2, table);
    assert.doesNotMatch(
      await node.namespace.exec('ip', ['addr', 'show', 'br1']),
      /10\.244\.7\.1\//,
      'somebody else has it',
    );
  });
});

test('the address of a pod that nobody can look into is not given out: whoever answers for it has it', async () => {
  await withOldNode(async ({ node, add, reservations }) => {
    const hidden = await add('hidden');
    // Its namespace has neither a name nor a process any more; an open file keeps it.
    const keeper = node.namespace.spawn(
      'bash',
      ['-c', `exec 9<${hidden.netns} && echo kept && exec sleep 600`],
      {
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    );
    await once(keeper.stdout!, 'data');
    await node.namespace.exec('ip', ['netns', 'del', hidden.namespace.name]);
    for (const name of reservations()) rmSync(join(node.directory, 'cni-data/networks/cbr0', name));
    await node.namespace.exec('ip', ['neigh', 'flush', 'dev', 'cni0']);
    await node.startServer();
    assert.deepEqual(await node.records(), []);
    assert.equal(addressOf(hidden.result), '10.244.7.2');
    const { result } = await node.added();
    assert.equal(result.ips[0].address, '10.244.7.3/24');
    const asked = await node.container({ runtimeConfig: { ips: ['10.244.7.2'] } });
    assert.match((await asked.call('ADD')).json.msg, /10\.244\.7\.2 is in use/);
    assert.match(node.log, /a pod that cannot be looked into has this address/);
    const free = await node.added({}, { runtimeConfig: { ips: ['10.244.7.9'] } });
    assert.equal(free.result.ips[0].address, '10.244.7.9/24');
    keeper.kill();
  });
});

test('DEL of a pod of the old chain that was gone before the agent came takes what its plugins left', async () => {
  await withOldNode(async ({ node, add, natTable, reservations }) => {
    const [gone, alive] = [await add('gone', hostPort(8080)), await add('alive', hostPort(8081))];
    const flannel = join(node.directory, 'cni-data/flannel');
    mkdirSync(flannel);
    for (const name of ['gone', 'alive']) writeFileSync(join(flannel, name), '{}');
    // As after a crash of the node's runtime: its namespace and its device are gone, and nobody called DEL.
    await gone.namespace.remove();
    await node.namespace.ip(`link del ${gone.result.interfaces[1].name}`).catch(() => '');
    await node.startServer();
    assert.deepEqual(
      (await node.records()).map(({ containerId }) => containerId),
      ['alive'],
    );
    for (let twice = 0; twice < 2; twice++)
      assert.equal((await node.call('DEL', { containerId: 'gone', netns: gone.netns })).status, 0);
    assert.deepEqual(reservations(), [addressOf(alive.result)]);
    assert.deepEqual(readdirSync(flannel), ['alive']);
    assert.doesNotMatch(await natTable(), /id: \\"gone\\"|8080/);
    assert.match(await natTable(), /id: \\"alive\\"/);
    await serveName(alive.namespace, 'alive', 80);
    assert.equal(await fetchFrom(node.namespace, '10.244.7.1', 8081), 'alive');
  });
});

test('a pod of which nobody knows the container is checked and deleted by its namespace, with its rules', async () => {
  await withOldNode(async ({ node, add, natTable }) => {
    const [old, other] = [await add('old', hostPort(8080)), await add('other')];
    await old.namespace.ip('addr add 10.244.7.77/32 dev eth0'); // an address that the pod has made itself
    rmSync(join(node.directory, 'cni-data/networks'), { recursive: true });
    await node.startServer();
    const { containerId, netns, result } = old;
    assert.deepEqual(
      (await node.records()).flatMap(({ addresses }) => addresses.map(({ gateway }) => gateway)),
      ['10.244.7.1', '10.244.7.1', '10.244.7.1'],
    );
    const asked = await node.container({ runtimeConfig: { ips: ['10.244.7.77'] } });
    assert.match((await asked.call('ADD')).json.msg, /10\.244\.7\.77 is in use/);
    const config = { prevResult: result };
    assert.equal((await node.call('CHECK', { containerId, netns, config })).status, 0);
    assert.equal((await node.call('DEL', { containerId, netns, ifname: 'net1' })).status, 0);
    assert.equal((await node.call('DEL', { containerId, netns: '' })).status, 0);
    assert.equal((await node.records()).length, 2, 'neither was about it');
    assert.equal((await node.call('DEL', { containerId, netns })).status, 0);
    assert.deepEqual(
      (await node.records()).map(({ addresses }) => addresses[0]?.address),
      [other.result.ips[0].address],
    );
    assert.equal((await node.hostVeths()).length, 1);
    assert.doesNotMatch(await natTable(), /id: \\"old\\"|8080/);
  });
});

test('rules that the plugins made with the other iptables than the node’s are known, and go with their pod', async () => {
  const programs = mkdtempSync(join(tmpdir(), 'twill-programs-'));
  try {
    for (const program of ['iptables', 'ip6tables'])
      symlinkSync(`/usr/sbin/${program}-legacy`, join(programs, program));
    await withOldNode(
      async ({ node, add, natTable }) => {
        await node.namespace.exec('iptables-nft', ['-t', 'mangle', '-N', 'KUBE-IPTABLES-HINT']);
        const [old, other] = [await add('old', hostPort(8080)), await add('other', hostPort(8081))];
        const legacy = (): Promise<string> => node.namespace.exec('iptables-legacy-save', ['-t', 'nat']);
        assert.match(await legacy(), /id: \\"old\\"/);
        await node.startServer();
        const records = await node.records();
        assert.deepEqual(records.map(({ portMappings }) => portMappings[0]?.hostPort).sort(), [8080, 8081]);
        assert.equal((await node.call('DEL', { containerId: 'old', netns: old.netns })).status, 0);
        assert.doesNotMatch(await legacy(), /id: \\"old\\"|8080/);
        assert.doesNotMatch(await natTable(), /8080/);
        await serveName(other.namespace, 'other', 80);
        assert.equal(await fetchFrom(node.namespace, '10.244.7.1', 8081), 'other');
      },
      { programs },
    );
  } finally {
    rmSync(programs, { recursive: true });
  }
});

test('rules of iptables-legacy that the agent may not read are named, and those that it may are known', () =>
  withOldNode(async ({ node, add }) => {
    await add('old', hostPort(8080));
    await node.namespace.exec('iptables-legacy', ['-t', 'nat', '-N', 'SOMEBODYS']);
    node.launcher = ['setpriv', '--bounding-set=-net_raw', '--inh-caps=-net_raw'];
    await node.startServer();
    const unread = /iptables-legacy-save -t nat failed: [^\n]*ermission denied[^\n]*may stand there, unread/;
    await waitFor('the warning', () => unread.test(node.log));
    assert.doesNotMatch(node.log, /ip6tables-legacy/);
    assert.deepEqual(
      (await node.records()).map(({ portMappings }) => portMappings[0]?.hostPort),
      [8080],
    );
  }));

test('pods on the old chain’s own bridge: adopted with its gateway address, let be without', async () => {
  await withOldNode(
    async ({ node, add, natTable }) => {
      const old = await add('old', hostPort(8080));
      await serveName(old.namespace, 'old', 80);
      await node.startServer();
      const [record] = await node.records();
      assert.deepEqual([record?.containerId, record?.bridge], ['old', 'cbr0']);
      const young = await node.added({ config: { delegate: { bridge: 'cbr0' } } });
      assert.equal(young.result.ips[0].address, '10.244.7.3/24');
      assert.equal(await fetchFrom(young.pod, '10.244.7.2', 80), 'old');
      assert.equal((await node.call('DEL', { containerId: 'old', netns: old.netns })).status, 0);
      assert.equal((await node.hostVeths()).length, 1);
      assert.doesNotMatch(await natTable(), /id: \\"old\\"/);
    },
    { bridge: 'cbr0' },
  );
  await withOldNode(
    async ({ node, add, natTable }) => {
      await add('old', hostPort(8080));
      await node.namespace.ip('addr flush dev other0', 'addr add 10.99.0.1/24 dev other0');
      await node.startServer();
      assert.deepEqual(await node.records(), []);
      const valid = { cniVersion: '1.1.0', 'cni.dev/valid-attachments': [] };
      assert.equal((await node.call('GC', { config: valid })).status, 0);
      assert.match(await natTable(), /id: \\"old\\"/, 'whoever has the address is somebody');
      assert.equal((await node.added()).result.ips[0].address, '10.244.7.3/24');
    },
    { bridge: 'other0' },
  );
});

test('a pod that has given its address to somebody inside of it keeps it, and DEL removes its device', async () => {
  await withOldNode(async ({ node, add, natTable, reservations }) => {
    const old = await add('machine', hostPort(8080));
    // As where a virtual machine has the pod's address: behind a bridge in the pod, on another interface.
    await old.namespace.ip(
      'link add inner type bridge',
      'link set inner up',
      'link set eth0 master inner',
      'addr flush dev eth0',
      'addr add 10.244.7.2/24 dev inner',
    );
    await node.startServer('400');
    const asked = await node.container({ runtimeConfig: { ips: ['10.244.7.2'] } });
    for (const end = Date.now() + 1500; Date.now() < end; )
      assert.match((await asked.call('ADD')).json.msg, /10\.244\.7\.2 is in use/);
    assert.match(await natTable(), /id: \\"machine\\"/);
    assert.equal((await node.call('DEL', { containerId: 'machine', netns: old.netns })).status, 0);
    assert.deepEqual(await node.hostVeths(), []);
    assert.deepEqual(reservations(), []);
    assert.doesNotMatch(await natTable(), /id: \\"machine\\"/);
    await waitFor('the address to be free', async () => (await asked.call('ADD')).status === 0);
  });
});

test('reservations that cannot be read are not taken for none: no pod comes until they can, and one that goes goes', async () => {
  await withOldNode(async ({ node, add }) => {
    const old = await add('old');
    await node.startServer();
    const ours = await node.added();
    // A link that leads to itself: nobody's rights, and no root's either, open it.
    const networks = join(node.directory, 'cni-data/networks');
    renameSync(networks, `${networks}.away`);
    symlinkSync('networks', networks);
    const { call } = await node.container();
    const refused = await call('ADD');
    assert.equal(refused.status, 1);
    assert.match(refused.json.msg + refused.json.details, /cannot read '.*cni-data\/networks'/);
    assert.equal((await ours.call('DEL')).status, 0);
    rmSync(networks);
    renameSync(`${networks}.away`, networks);
    assert.equal((await call('ADD')).status, 0);
    assert.equal((await node.call('DEL', { containerId: 'old', netns: old.netns })).status, 0);
  });
});
