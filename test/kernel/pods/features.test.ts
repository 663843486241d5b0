import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  assertReaches,
  dualStack,
  fetchFrom,
  serveName,
  withCniNode,
  withOutsideClient,
} from '../../lab/cni-node.ts';
import { waitFor } from '../../lab/wait.ts';

test('dual stack: both addresses are usable at once, without duplicate address detection', async () => {
  await withCniNode(async (node) => {
    const [a, b] = [await node.pod(), await node.pod()];
    const added = await node.call('ADD', { containerId: 'a', netns: a.path });
    assert.deepEqual(
      added.json.ips.map((ip: { address: string }) => ip.address),
      ['10.244.7.2/24', 'fd00:244:0:7::2/64'],
    );
    const [eth0] = JSON.parse(await a.exec('ip', ['-j', '-6', 'addr', 'show', 'eth0', 'scope', 'global']));
    assert.equal(eth0.addr_info[0].tentative, undefined);
    assert.equal(eth0.addr_info[0].nodad, true);
    assert.match(await a.exec('ip', ['-6', 'route']), /^default via fd00:244:0:7::1 dev eth0/m);
    assert.match(await a.exec('ip', ['-6', 'route']), /^fd00:244::\/48 via fd00:244:0:7::1/m);
    await node.call('ADD', { containerId: 'b', netns: b.path });
    await assertReaches(b, '10.244.7.2');
    await assertReaches(b, 'fd00:244:0:7::2');
    await assertReaches(node.namespace, 'fd00:244:0:7::3');
  }, dualStack);
});

test('ADD announces the addresses: the bridge learns the MAC, neighbours learn a new one', async () => {
  await withCniNode(async (node) => {
    const pod = await node.pod();
    // Nothing but the gratuitous ARP can teach the bridge then.
    pod.sysctl({ 'net/ipv6/conf/all/disable_ipv6': '1', 'net/ipv6/conf/default/disable_ipv6': '1' });
    const added = await node.call('ADD', { netns: pod.path });
    const { mac } = added.json.interfaces[2];
    const { name } = added.json.interfaces[1];
    const learned = async (): Promise<boolean> =>
      (await node.namespace.exec('bridge', ['fdb', 'show', 'br', 'cni0'])).includes(`${mac} dev ${name}`);
    for (let tries = 0; !(await learned()); tries++) {
      assert.ok(tries < 100, 'the bridge has not learned the MAC');
      await sleep(10);
    }
  });
});

test('an unsolicited neighbour advertisement replaces a stale entry', async () => {
  await withCniNode(async (node) => {
    const pod = await node.pod();
    await node.call('ADD', { containerId: 'first', netns: (await node.pod()).path });
    const stale = 'neigh replace fd00:244:0:7::3 lladdr 0a:58:00:00:00:99 nud stale dev cni0';
    await node.namespace.ip(stale);
    const added = await node.call('ADD', { netns: pod.path });
    const { mac } = added.json.interfaces[2];
    const entry = (): Promise<string> =>
      node.namespace.exec('ip', ['-6', 'neigh', 'show', 'fd00:244:0:7::3']);
    for (let tries = 0; !(await entry()).includes(mac); tries++) {
      assert.ok(tries < 100, `the entry is still ${await entry()}`);
      await sleep(10);
    }
  }, 'fd00:244::/48=fd00:244:0:7::/64');
});

test('hostPort: from outside, from the node, from another pod and from the pod itself; gone after DEL', async () => {
  await withOutsideClient(async (node, client) => {
    const [a, b] = [await node.pod(), await node.pod()];
    const runtimeConfig = {
      portMappings: [
        { hostPort: 8080, containerPort: 80, protocol: 'tcp' },
        { hostPort: 8081, containerPort: 80, protocol: 'tcp', hostIP: '192.0.2.1' },
      ],
    };
    const added = await node.call('ADD', { containerId: 'a', netns: a.path, config: { runtimeConfig } });
    assert.equal(added.status, 0, added.stdout);
    await node.call('ADD', { containerId: 'b', netns: b.path });
    await serveName(a, 'pod-a', 80);
    for (const [from, address] of [
      [client, '192.0.2.1'],
      [client, '2001:db8::1'],
      [node.namespace, '192.0.2.1'],
      [node.namespace, '127.0.0.1'],
      [b, '192.0.2.1'],
      [b, '10.244.7.1'],
      [a, '192.0.2.1'],
    ] as const) {
      assert.equal(await fetchFrom(from, address, 8080), 'pod-a', `${from.name} to ${address}`);
    }
    assert.equal(await fetchFrom(client, '192.0.2.1', 8081), 'pod-a');
    assert.equal(
      await fetchFrom(node.namespace, '10.244.7.1', 8081),
      undefined,
      'another address of the node',
    );
    await node.namespace.exec('iptables-nft', ['-t', 'nat', '-F']);
    await node.stopServer('SIGKILL');
    await node.startServer();
    await waitFor(
      'the rules to be repaired after a flush',
      async () => (await fetchFrom(client, '192.0.2.1', 8080)) === 'pod-a',
    );
    await node.call('DEL', { containerId: 'a', netns: a.path });
    const rules = await node.namespace.exec('iptables-nft-save', ['-t', 'nat']);
    assert.doesNotMatch(rules, /8080|8081|TWILL/);
    assert.equal(await fetchFrom(client, '192.0.2.1', 8080), undefined);
  }, dualStack);
});

test('host ports leave the rules of the portmap plugin alone', async () => {
  await withCniNode(async (node) => {
    const pod = await node.pod();
    const foreign = '-A CNI-HOSTPORT-DNAT -p tcp -m tcp --dport 9999 -j CNI-DN-0123456789abcdef';
    await node.namespace.exec('iptables-nft-restore', ['--noflush'], {
      input: `*nat\n:CNI-HOSTPORT-DNAT - [0:0]\n:CNI-DN-0123456789abcdef - [0:0]\n${foreign}\nCOMMIT\n`,
    });
    const runtimeConfig = { portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'udp' }] };
    const added = await node.call('ADD', { netns: pod.path, config: { runtimeConfig } });
    assert.equal(added.status, 0, added.stdout);
    const during = await node.namespace.exec('iptables-nft-save', ['-t', 'nat']);
    assert.ok(during.includes(foreign), during);
    assert.match(during, /-p udp -m udp --dport 8080 .*-j DNAT --to-destination 10\.244\.7\.2:80/);
    await node.call('DEL', { netns: pod.path });
    assert.ok((await node.namespace.exec('iptables-nft-save', ['-t', 'nat'])).includes(foreign));
  });
});

test('bandwidth: both directions are shaped at the node, repaired, and gone after DEL', async () => {
  await withCniNode(async (node) => {
    const pod = await node.pod();
    const bandwidth = {
      ingressRate: 8_000_000,
      ingressBurst: 800_000,
      egressRate: 16_000_000,
      egressBurst: 1_600_000,
    };
    const added = await node.call('ADD', { netns: pod.path, config: { runtimeConfig: { bandwidth } } });
    assert.equal(added.status, 0, added.stdout);
    const veth = added.json.interfaces[1].name;
    const ifb = veth.replace('veth', 'ifb');
    const rates = async (): Promise<string> => {
      const text = await node.namespace.exec('tc', ['qdisc', 'show']);
      const rate = (device: string): string | undefined =>
        new RegExp(`tbf .* dev ${device} root .* rate (\\S+) burst`).exec(text)?.[1];
      return `${rate(veth)} ${rate(ifb)}`;
    };
    assert.equal(await rates(), '8Mbit 16Mbit');
    const filters = await node.namespace.exec('tc', ['filter', 'show', 'dev', veth, 'ingress']);
    assert.match(filters, new RegExp(`Redirect to device ${ifb}`));
    await assertReaches(pod, '10.244.7.1');
    await node.namespace.ip(`link del ${ifb}`);
    await node.namespace.exec('tc', ['qdisc', 'del', 'dev', veth, 'root']);
    await node.stopServer();
    await node.startServer();
    await waitFor('what was removed to be put back', async () => (await rates()) === '8Mbit 16Mbit');
    await assertReaches(pod, '10.244.7.1');
    await node.call('DEL', { netns: pod.path });
    assert.doesNotMatch(await node.namespace.exec('ip', ['link']), /ifb|veth/);
  });
});

test('dual stack in a sandbox whose IPv6 is off, on a node that has it off for what is new', async () => {
  await withCniNode(async (node) => {
    const off = { 'net/ipv6/conf/all/disable_ipv6': '1', 'net/ipv6/conf/default/disable_ipv6': '1' };
    const pod = await node.pod();
    pod.sysctl(off);
    node.namespace.sysctl({ 'net/ipv6/conf/default/disable_ipv6': '1' });
    await pod.ip('link add other0 type bridge', 'link set other0 up');
    const added = await node.call('ADD', { netns: pod.path });
    assert.equal(added.status, 0, added.stdout);
    const other = await node.pod();
    await node.call('ADD', { containerId: 'c2', netns: other.path });
    for (const address of ['fd00:244:0:7::1', 'fd00:244:0:7::2', 'fd00:244:0:7::3', '::1', '127.0.0.1'])
      await assertReaches(pod, address);
    await assertReaches(other, 'fd00:244:0:7::2');
    await assertReaches(node.namespace, 'fd00:244:0:7::2');
    const left = await pod.exec('cat', ['/proc/sys/net/ipv6/conf/other0/disable_ipv6']);
    assert.equal(left.trim(), '1', 'what is not ours stays as it was');
  }, dualStack);
});

test('what containerd writes under the names of Go’s fields has its meaning', async () => {
  await withCniNode(async (node) => {
    const pod = await node.pod();
    const runtimeConfig = {
      portMappings: [{ HostPort: 8080, ContainerPort: 80, Protocol: 'tcp', HostIP: '' }],
      bandwidth: { IngressRate: 8_000_000, IngressBurst: 800_000, EgressRate: 0, EgressBurst: 0 },
    };
    const config = { runtimeConfig, HairpinMode: false, MTU: 1400 };
    const added = await node.call('ADD', { netns: pod.path, config });
    assert.equal(added.status, 0, added.stdout);
    await serveName(pod, 'pod', 80);
    assert.equal(await fetchFrom(node.namespace, '127.0.0.1', 8080), 'pod');
    const veth = added.json.interfaces[1].name;
    const [link] = JSON.parse(await node.namespace.exec('ip', ['-j', '-d', 'link', 'show', veth]));
    assert.deepEqual([link.linkinfo.info_slave_data.hairpin, link.mtu], [false, 1400]);
    assert.match(await node.namespace.exec('tc', ['qdisc', 'show', 'dev', veth]), /tbf .* rate 8Mbit/);
    const { ips, ...rest } = added.json;
    const config2 = { ...config, cniVersion: '1.0.0', PrevResult: { ...rest, IPs: ips } };
    const checked = await node.call('CHECK', { netns: pod.path, config: config2 });
    assert.equal(checked.status, 0, checked.stdout);
  });
});
