// Rules that other plugins, or an earlier agent, made for pods which are adopted: read, kept, and removed with them.
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { type CniNode, dualStack, fetchFrom, serveName, withCniNode } from '../../lab/cni-node.ts';
import { FlannelChain, pluginFolder } from '../../lab/flannel-chain.ts';
import { addressOf, hostPort, type OldPod, withOldNode } from '../../lab/old-node.ts';
import { pathWithout } from '../../lab/programs.ts';
import { waitFor } from '../../lab/wait.ts';

/** A folder of programs in which iptables-nft-save fails while a file is there. @returns that file */
function failingSave(node: CniNode): { readonly folder: string; readonly failing: string } {
  const folder = join(node.directory, 'programs');
  const failing = join(folder, 'failing');
  mkdirSync(folder);
  const script = `#!/bin/sh\n[ -e ${failing} ] || exec /usr/sbin/iptables-nft-save "$@"\necho out of memory >&2\nexit 4\n`;
  writeFileSync(join(folder, 'iptables-nft-save'), script, { mode: 0o755 });
  writeFileSync(failing, '');
  return { folder, failing };
}

test('host ports that cannot be read when pods are adopted are read later, and stay meanwhile', async () => {
  await withCniNode(async (node) => {
    const { pod } = await node.added({ config: { runtimeConfig: hostPort(8080) } });
    await serveName(pod, 'old', 80);
    await node.killAndForgetPods();
    const { folder, failing } = failingSave(node);
    node.launcher = ['env', `PATH=${folder}:${process.env.PATH}`];
    // A look each second, of which twenty may fail.
    await node.startServer('4000');
    await waitFor('a look after the pods', () => /cannot be read yet/.test(node.log));
    assert.deepEqual(
      (await node.records()).map(({ portMappings, hostPortsUnread }) => ({ portMappings, hostPortsUnread })),
      [{ portMappings: [], hostPortsUnread: true }],
    );
    assert.equal(await fetchFrom(node.namespace, '10.244.7.1', 8080), 'old');
    const young = await node.container({ runtimeConfig: hostPort(8081) });
    assert.equal((await young.call('ADD')).json.code, 11);
    assert.equal((await node.call('ADD', { containerId: 'plain', netns: young.pod.path })).status, 0);
    rmSync(failing);
    await waitFor('the host port', async () => (await node.records())[0]?.portMappings[0]?.hostPort === 8080);
    assert.equal((await node.records())[0]?.hostPortsUnread, undefined);
    assert.equal(await fetchFrom(node.namespace, '10.244.7.1', 8080), 'old');
    await node.added({ config: { runtimeConfig: hostPort(8081) } });
  });
});

const inBoth = {
  portMappings: [
    { hostPort: 8080, containerPort: 80, protocol: 'tcp' },
    { hostPort: 8081, containerPort: 80, protocol: 'tcp', hostIP: '0.0.0.0' },
    { hostPort: 8082, containerPort: 80, protocol: 'udp', hostIP: '::' },
    { hostPort: 8083, containerPort: 80, protocol: 'tcp', hostIP: '127.0.0.1' },
  ],
};

const sorted = (of: readonly { hostPort: number }[] | undefined) =>
  [...(of ?? [])].sort((a, b) => a.hostPort - b.hostPort);

test('host ports for all addresses of one family are not opened in the other when their pod is adopted', async () => {
  await withOldNode(
    async ({ node, add }) => {
      const { result } = await add('old', inBoth);
      assert.equal(result.ips.length, 2);
      await node.startServer();
      const [record] = await node.records();
      assert.deepEqual(sorted(record?.portMappings), inBoth.portMappings);
      assert.deepEqual(record?.addresses, [
        { address: '10.244.7.2/24', gateway: '10.244.7.1' },
        { address: 'fd00:244:0:7::2/64', gateway: 'fd00:244:0:7::1' },
      ]);
      const rules = await waitFor('our rules', async () => {
        const saved = await node.namespace.exec('ip6tables-nft-save', ['-t', 'nat']);
        return /CNI-HOSTPORT-TWILL .*8082/.test(saved) && saved;
      });
      assert.doesNotMatch(rules, /-A CNI-HOSTPORT-TWILL .*--dport (8081|8083)/);
      // Nobody gets an address of the old pod's, of either family.
      const asked = await node.container({ runtimeConfig: { ips: ['fd00:244:0:7::2'] } });
      assert.match((await asked.call('ADD')).json.msg, /fd00:244:0:7::2 is in use/);
      assert.equal((await node.call('DEL', { containerId: 'old', netns: '' })).status, 0);
      for (const save of ['iptables-nft-save', 'ip6tables-nft-save'])
        assert.doesNotMatch(await node.namespace.exec(save, ['-t', 'nat']), /id: \\"old\\"|808\d/);
      assert.equal((await asked.call('ADD')).status, 0);
    },
    { subnet6: 'fd00:244:0:7::/64' },
  );
  await withCniNode(async (node) => {
    await node.added({ config: { bridge: 'br1', isGateway: false, runtimeConfig: inBoth } });
    await node.killAndForgetPods();
    await node.startServer();
    assert.deepEqual(sorted((await node.records())[0]?.portMappings), inBoth.portMappings);
  }, dualStack);
});

test('DEL of one interface of an old pod leaves the rules of another, of its container in another network', async () => {
  await withOldNode(async ({ node, add, natTable }) => {
    const old = await add('old', hostPort(8080));
    const second = new FlannelChain({
      node: node.namespace,
      dataDir: join(node.directory, 'other'),
      subnet: '10.99.0.0/24',
      network: '10.99.0.0/16',
      name: 'second',
      ifname: 'net1',
      bridge: 'other0',
      delegate: { ipMasq: true, isDefaultGateway: false },
    });
    await second.add('old', old.netns, hostPort(8081));
    await node.startServer();
    const { isolated } = (await node.records())[0]!;
    assert.equal(isolated, undefined);
    assert.equal((await node.call('DEL', { containerId: 'old', netns: old.netns })).status, 0);
    const table = await natTable();
    assert.doesNotMatch(table, /name: \\"cbr0\\"|--dport 8080/);
    assert.match(table, /dnat name: \\"second\\" id: \\"old\\"/);
    assert.match(table, /-A POSTROUTING -s 10\.99\.0\.2\/32 .*name: \\"second\\" id: \\"old\\"/);
  });
});

test('a port that is isolated is known to be; what the bandwidth plugin made goes with pods that nobody knew', async () => {
  await withOldNode(
    async ({ node, add }) => {
      const [gone, nameless] = [await add('gone'), await add('nameless')];
      await node.namespace.ip(`link set ${nameless.result.interfaces[1].name} type bridge_slave isolated on`);
      await gone.namespace.remove();
      await node.namespace.ip(`link del ${gone.result.interfaces[1].name}`).catch(() => '');
      rmSync(join(node.directory, 'cni-data/networks/cbr0', addressOf(nameless.result)));
      await node.startServer();
      assert.deepEqual(
        (await node.records()).map(({ isolated }) => isolated),
        [true],
      );
      const bursts = async (): Promise<number> =>
        (await node.namespace.exec('ip', ['link'])).match(/ bwp/g)?.length ?? 0;
      assert.equal(await bursts(), 2);
      assert.equal((await node.call('DEL', { containerId: 'gone', netns: '' })).status, 0);
      assert.equal(await bursts(), 1);
      const { netns } = nameless;
      const config = { name: 'cbr0' };
      assert.equal((await node.call('DEL', { containerId: 'nameless', netns, config })).status, 0);
      assert.equal(await bursts(), 0);
    },
    { bandwidth: { egressRate: 16_000_000, egressBurst: 1_600_000 } },
  );
});

test('the bridge plugin’s rules against forged MACs go with their pod, those of others stay', async () => {
  await withOldNode(
    async ({ node, add }) => {
      const old = await add('old');
      await add('other');
      await node.startServer();
      assert.equal((await node.call('DEL', { containerId: 'old', netns: old.netns })).status, 0);
      const table = await node.namespace.exec('nft', ['list', 'table', 'bridge', 'nat']);
      assert.doesNotMatch(table, /old-eth0/);
      assert.match(table, /chain cni-br-iface-other-eth0-mac/);
    },
    { delegate: { macspoofchk: true } },
  );
});

test('what the firewall plugin accepts goes with its pod, and when its pod is gone', async () => {
  await withOldNode(
    async ({ node, add }) => {
      const [old, gone, alive] = [await add('old'), await add('gone'), await add('alive')];
      await gone.namespace.remove();
      await node.namespace.ip(`link del ${gone.result.interfaces[1].name}`).catch(() => '');
      rmSync(join(node.directory, 'cni-data/networks/cbr0', addressOf(gone.result)));
      await node.namespace.exec('iptables-nft', ['-A', 'CNI-FORWARD', '-s', '10.99.0.9/32', '-j', 'ACCEPT']);
      // What is no file, and cannot be removed like one, keeps nothing else from going.
      mkdirSync(join(node.directory, 'cni-data/flannel/old'), { recursive: true });
      mkdirSync(join(node.directory, 'cni-data/networks/cbr0/10.244.7.77'));
      await node.startServer();
      const accepted = async (): Promise<string[]> => {
        const lines = await node.namespace.exec('iptables-nft', ['-S', 'CNI-FORWARD']);
        return Array.from(lines.matchAll(/-s (\S+)\/32 -j ACCEPT/g), ([, address]) => address!);
      };
      const others = [addressOf(alive.result), '10.99.0.9'];
      await waitFor('rules of a pod that is gone to go', async () => (await accepted()).length === 3);
      assert.deepEqual(await accepted(), [addressOf(old.result), ...others]);
      assert.equal((await node.call('DEL', { containerId: 'old', netns: old.netns })).status, 0);
      assert.deepEqual(await accepted(), others);
    },
    { firewall: true },
  );
});

test('an old reservation of an address that is another pod’s by now: its DEL leaves that pod’s rules', async () => {
  await withCniNode(async (node) => {
    const { pod, containerId, result } = await node.added();
    const address = addressOf(result);
    const config = { cniVersion: '1.0.0', name: 'twill', type: 'firewall', backend: 'iptables' };
    await node.namespace.exec(join(pluginFolder, 'firewall'), [], {
      input: JSON.stringify({ ...config, prevResult: result }),
      env: {
        ...process.env,
        CNI_COMMAND: 'ADD',
        CNI_CONTAINERID: containerId,
        CNI_NETNS: pod.path,
        CNI_IFNAME: 'eth0',
        CNI_PATH: pluginFolder,
      },
    });
    const accepted = (): Promise<string> => node.namespace.exec('iptables-nft', ['-S', 'CNI-FORWARD']);
    const before = await accepted();
    assert.ok(before.includes(`-s ${address}/32 -j ACCEPT`), before);
    const folder = join(node.directory, 'cni-data/networks/cbr0');
    mkdirSync(folder, { recursive: true });
    const reservation = join(folder, address);
    writeFileSync(reservation, 'late\r\neth0');
    assert.equal((await node.call('DEL', { containerId: 'late', netns: '' })).status, 0);
    assert.ok(!existsSync(reservation));
    assert.equal(await accepted(), before);
  });
});

/**
 * What the portmap plugin (`backend: nftables`) and the bridge plugin (`ipMasqBackend: nftables`) write for a pod since
 * version 1.6: portmap_nftables.go and ipmasq_nftables_linux.go. Debian has no such version.
 */
function pluginDocument(
  { containerId, result }: Pick<OldPod, 'containerId' | 'result'>,
  port: number,
): string {
  const address = addressOf(result);
  const own = `comment "${containerId}"`;
  const comment = `0123456789abcdef-fedcba9876543210, net: cbr0, if: eth0, id: ${containerId}`.slice(0, 128);
  return `add table ip cni_hostport { comment "CNI portmap plugin" ; }
add chain ip cni_hostport hostports
add chain ip cni_hostport hostip_hostports
add chain ip cni_hostport hostports_all
flush chain ip cni_hostport hostports_all
add rule ip cni_hostport hostports_all jump hostip_hostports
add rule ip cni_hostport hostports_all jump hostports
add chain ip cni_hostport prerouting { type nat hook prerouting priority -100 ; }
flush chain ip cni_hostport prerouting
add rule ip cni_hostport prerouting fib daddr type local jump hostports_all
add chain ip cni_hostport output { type nat hook output priority -100 ; }
flush chain ip cni_hostport output
add rule ip cni_hostport output fib daddr type local jump hostports_all
add chain ip cni_hostport masquerading { type nat hook postrouting priority 100 ; }
add rule ip cni_hostport hostports ip daddr 10.244.7.1 tcp dport ${port} dnat to ${address}:80 ${own}
add rule ip cni_hostport masquerading ip saddr ${address} ip daddr ${address} masquerade ${own}
add rule ip cni_hostport masquerading ip saddr 127.0.0.1 ip daddr ${address} masquerade ${own}
add table inet cni_plugins_masquerade { comment "Masquerading for plugins from github.com/containernetworking/plugins" ; }
add chain inet cni_plugins_masquerade masq_checks { comment "Masquerade traffic from certain IPs" ; }
add chain inet cni_plugins_masquerade postrouting { type nat hook postrouting priority 100 ; }
flush chain inet cni_plugins_masquerade postrouting
add rule inet cni_plugins_masquerade postrouting ip daddr == 224.0.0.0/4  return
add rule inet cni_plugins_masquerade postrouting goto masq_checks
add rule inet cni_plugins_masquerade masq_checks ip saddr == ${address} ip daddr != 10.244.7.0/24 masquerade comment "${comment}"
`;
}

const longId = (name: string): string => name.padEnd(80, 'f');

test('rules that the plugins wrote with nftables: host ports are adopted, give way to new pods, and go with theirs', async () => {
  await withOldNode(async ({ node, add }) => {
    const names = ['old', 'other', 'dead'].map(longId);
    const [old, other, dead] = [await add(names[0]!), await add(names[1]!), await add(names[2]!)];
    for (const [at, pod] of [old, other, dead].entries())
      await node.namespace.exec('nft', ['-f', '-'], { input: pluginDocument(pod, 8080 + at) });
    await dead.namespace.remove();
    await node.namespace.ip(`link del ${dead.result.interfaces[1].name}`).catch(() => '');
    rmSync(join(node.directory, 'cni-data/networks/cbr0', addressOf(dead.result)));
    await serveName(old.namespace, 'old', 80);
    await serveName(other.namespace, 'other', 80);
    const fetch = (port: number): Promise<string | undefined> =>
      fetchFrom(node.namespace, '10.244.7.1', port);
    assert.equal(await fetch(8080), 'old');
    await node.startServer();
    const known = (await node.records()).map(({ portMappings, hostPortOptions }) => [
      portMappings[0]?.hostPort,
      portMappings[0]?.hostIP,
      hostPortOptions,
    ]);
    assert.deepEqual(known, [
      [8080, '10.244.7.1', undefined],
      [8081, '10.244.7.1', undefined],
    ]);
    const listed = (family: string, table: string): Promise<string> =>
      node.namespace.exec('nft', ['list', 'table', family, table]);
    const rules = async (): Promise<string> =>
      (await listed('ip', 'cni_hostport')) + (await listed('inet', 'cni_plugins_masquerade'));
    await waitFor(
      'rules of a container that is gone to go',
      async () => !(await rules()).includes(names[2]!.slice(0, 40)),
    );
    const young = await node.added({ config: { runtimeConfig: hostPort(8080) } });
    await serveName(young.pod, 'young', 80);
    assert.equal(await fetch(8080), 'young');
    assert.equal((await young.call('DEL')).status, 0);
    assert.equal(await fetch(8080), 'old');
    assert.equal((await node.call('DEL', { containerId: names[0]!, netns: old.netns })).status, 0);
    assert.equal(await fetch(8080), undefined);
    assert.equal(await fetch(8081), 'other');
    assert.doesNotMatch(await rules(), /10\.244\.7\.2\b/);
    assert.equal((await rules()).match(/10\.244\.7\.3\b.*masquerade/g)?.length, 3);
  });
});

test('rules that the plugins wrote with nftables, where no nft is installed: named, and nothing else waits for them', async () => {
  await withOldNode(async ({ node, add, natTable }) => {
    const old = await add('old', hostPort(8080));
    await node.namespace.exec('nft', ['-f', '-'], { input: pluginDocument(old, 8081) });
    node.launcher = ['env', `PATH=${pathWithout(node.directory, /^nft$/)}`];
    await node.startServer();
    assert.match(node.log, /'nft' is not installed[^\n]*may stand there, unread/);
    assert.deepEqual(
      (await node.records()).map(({ portMappings, hostPortsUnread }) => [
        portMappings.map((mapping) => mapping.hostPort),
        hostPortsUnread,
      ]),
      [[[8080], undefined]],
    );
    await node.added({ config: { runtimeConfig: hostPort(8082) } });
    assert.equal((await node.call('DEL', { containerId: 'old', netns: old.netns })).status, 0);
    assert.doesNotMatch(await natTable(), /--dport 8080/);
  });
});
