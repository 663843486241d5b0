// The options of a network configuration that are honoured, as the README's table has them.
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fails } from '../../lab/cni-conformance.ts';
import {
  assertReaches,
  dualStack,
  fetchFrom,
  serveName,
  sharedCniNode,
  withCniNode,
  withOutsideClient,
} from '../../lab/cni-node.ts';
import type { Namespace } from '../../lab/namespace.ts';
import { added, latest, refused as refusedOn } from '../../lab/pod-options.ts';

const shared = sharedCniNode();

// biome-ignore lint/suspicious/noExplicitAny: what ip prints
async function link(namespace: Namespace, name: string): Promise<any> {
  return JSON.parse(await namespace.exec('ip', ['-j', '-d', 'addr', 'show', name]))[0];
}

const refused = (config: object, message: RegExp): Promise<void> => refusedOn(shared.node, config, message);

test('isGateway false: the bridge gets no address, and there is no default route', async () => {
  await withCniNode(async (node) => {
    const { pod, result } = await added(node, { isGateway: false });
    const bridge = await link(node.namespace, 'cni0');
    assert.ok(!bridge.addr_info.some(({ family }: { family: string }) => family === 'inet'));
    assert.doesNotMatch(await pod.exec('ip', ['route']), /default/);
    assert.equal(result.ips[0].gateway, '10.244.7.1', 'somebody else may be it');
    await added(node, { delegate: { isGateway: false, isDefaultGateway: true } });
    assert.match(
      JSON.stringify(await link(node.namespace, 'cni0')),
      /10\.244\.7\.1/,
      'the default gateway is one',
    );
  });
});

test('promiscMode: the bridge is promiscuous, and hairpin off unless it is asked for, which is refused', async () => {
  await withCniNode(async (node) => {
    const { result } = await added(node, { delegate: { promiscMode: true } });
    assert.ok((await link(node.namespace, 'cni0')).flags.includes('PROMISC'));
    const port = await link(node.namespace, result.interfaces[1].name);
    assert.equal(port.linkinfo.info_slave_data.hairpin, false);
  });
  await refused({ promiscMode: true, hairpinMode: true }, /promiscMode is true.*hairpinMode/);
});

test('macspoofchk: frames with a forged source are dropped, others pass; gone after DEL', async () => {
  await withCniNode(async (node) => {
    const { pod, call } = await added(node, { macspoofchk: true });
    const other = await added(node, {});
    await assertReaches(pod, '10.244.7.1');
    await assertReaches(pod, '10.244.7.3');
    await pod.ip('link set eth0 address 0a:58:00:00:00:99');
    await assert.rejects(assertReaches(pod, '10.244.7.1', 3), 'forged');
    await other.pod.ip('link set eth0 address 0a:58:00:00:00:98');
    await assertReaches(other.pod, '10.244.7.1');
    await pod.ip('link set eth0 address 0a:58:0a:f4:07:02');
    await assertReaches(pod, '10.244.7.1');
    assert.equal((await call('DEL')).status, 0);
    assert.doesNotMatch(await node.namespace.exec('nft', ['list', 'ruleset']), /macspoofchk/);
  });
});

test('portIsolation: two pods that want it do not reach each other, and reach the rest', async () => {
  await withCniNode(async (node) => {
    const [a, , c] = [
      await added(node, { portIsolation: true }),
      await added(node, { portIsolation: true }),
      await added(node, {}),
    ];
    await assert.rejects(assertReaches(a.pod, '10.244.7.3', 3));
    await assertReaches(a.pod, '10.244.7.1');
    await assertReaches(a.pod, '10.244.7.4');
    await assertReaches(c.pod, '10.244.7.2');
  });
});

test('forceAddress: another address of the bridge goes, or is refused', async () => {
  // The agent's own bridge has its gateway addresses alone where nothing is said, too.
  for (const forceAddress of [true, undefined]) {
    await withCniNode(async (node) => {
      await node.namespace.ip('link add cni0 type bridge', 'addr add 10.9.9.1/24 dev cni0');
      await added(node, { forceAddress });
      const shown = JSON.stringify((await link(node.namespace, 'cni0')).addr_info);
      assert.match(shown, /10\.244\.7\.1/);
      assert.equal(shown.includes('10.9.9.1'), false);
    });
  }
  await withCniNode(async (node) => {
    await node.namespace.ip('link add cni0 type bridge', 'addr add 10.9.9.1/24 dev cni0');
    const { call } = await node.container(latest);
    fails(await call('ADD', { config: { forceAddress: false } }), 7, /forceAddress is false.*10\.9\.9\.1/);
  });
});

test('enabledad: a duplicate of the IPv6 address is found before ADD succeeds', async () => {
  await withCniNode(async (node) => {
    const { pod } = await added(node, { enabledad: true });
    const [address] = (await link(pod, 'eth0')).addr_info.filter(
      ({ family, scope }: { family: string; scope: string }) => family === 'inet6' && scope === 'global',
    );
    assert.deepEqual([address.nodad, address.tentative], [undefined, undefined]);
    const rogue = await added(node, {});
    await rogue.pod.ip('addr add fd00:244:0:7::4/64 dev eth0 nodad');
    const { call } = await node.container(latest);
    fails(
      await call('ADD', { config: { enabledad: true } }),
      100,
      /somebody else on the bridge has fd00:244:0:7::4/,
    );
  }, dualStack);
});

test('disableContainerInterface: a port of the bridge whose other end is left to somebody else', async () => {
  await withCniNode(async (node) => {
    const { pod, call, result } = await added(node, { disableContainerInterface: true });
    assert.deepEqual([result.ips, result.routes], [[], []]);
    const eth0 = await link(pod, 'eth0');
    assert.deepEqual([eth0.flags.includes('UP'), eth0.addr_info], [false, []]);
    assert.equal((await link(node.namespace, result.interfaces[1].name)).master, 'cni0');
    const config = { disableContainerInterface: true, prevResult: result };
    assert.equal((await call('CHECK', { config })).status, 0);
    assert.equal((await call('DEL')).status, 0);
  });
  const ips = ['10.244.7.9'];
  for (const [asked, field] of [
    [{ ipam: { type: 'host-local' } }, /leave ipam out/],
    [{ runtimeConfig: { ips } }, /leave runtimeConfig\.ips out/],
    [{ runtimeConfig: { ipRanges: [[{ subnet: '10.244.7.0/24' }]] } }, /leave runtimeConfig\.ipRanges out/],
    [{ args: { cni: { ips } } }, /leave args\.cni\.ips out/],
  ] as const)
    await refused({ disableContainerInterface: true, ...asked }, field);
});

test('the MAC in its three forms: the capability before args, args before CNI_ARGS', async () => {
  const mac = (end: string): string => `02:00:00:00:00:${end}`;
  const environment = { CNI_ARGS: `MAC=${mac('01')}` };
  const args = { cni: { mac: mac('02').toUpperCase() } };
  for (const [config, end] of [
    [{}, '01'],
    [{ args }, '02'],
    [{ args, runtimeConfig: { mac: mac('03') } }, '03'],
  ] as const) {
    const { pod, result } = await added(shared.node, config, environment);
    assert.equal(result.interfaces[2].mac, mac(end).toLowerCase());
    assert.equal((await link(pod, 'eth0')).address, mac(end).toLowerCase());
  }
  await refused({ runtimeConfig: { mac: '01:00:00:00:00:01' } }, /runtimeConfig\.mac/);
  const { call } = await shared.node.container(latest);
  fails(await call('ADD', { environment: { CNI_ARGS: 'MAC=nonsense' } }), 4, /CNI_ARGS: MAC: nonsense/);
});

test('the address in its three forms: the capability and args before CNI_ARGS', async () => {
  const environment = { CNI_ARGS: 'IP=10.244.7.121' };
  for (const [config, address] of [
    [{}, '10.244.7.121/24'],
    [{ args: { cni: { ips: ['10.244.7.122/24'] } } }, '10.244.7.122/24'],
    [{ args: { CNI: { IPs: ['10.244.7.123'] } } }, '10.244.7.123/24'],
  ] as const)
    assert.equal((await added(shared.node, config, environment)).result.ips[0].address, address);
  const { result } = await added(shared.node, { runtimeConfig: { ips: ['10.244.7.124'] } });
  assert.equal(result.ips[0].address, '10.244.7.124/24');
});

test('host-local’s ranges within the lease: addresses come from them alone', async () => {
  await withCniNode(async (node) => {
    const of = async (config: object): Promise<string[]> =>
      (await added(node, config)).result.ips.map(({ address }: { address: string }) => address);
    assert.deepEqual(await of({ ipam: { rangeStart: '10.244.7.100', rangeEnd: '10.244.7.101' } }), [
      '10.244.7.100/24',
      'fd00:244:0:7::2/64',
    ]);
    const ranges = [
      [{ subnet: '10.244.7.32/29' }, { subnet: '10.244.7.0/24', rangeStart: '10.244.7.200' }],
      [{ subnet: 'fd00:244:0:7::/64', rangeStart: 'fd00:244:0:7::a:0', gateway: 'fd00:244:0:7::1' }],
    ];
    assert.deepEqual(await of({ ipam: { type: 'host-local', ranges } }), [
      '10.244.7.200/24',
      'fd00:244:0:7::a:0/64',
    ]);
    const small = { ipam: { subnet: '10.244.7.248/30' } };
    const given = new Set<string | undefined>();
    for (let i = 0; i < 3; i++) given.add((await of(small))[0]);
    assert.deepEqual([...given].sort(), ['10.244.7.248/24', '10.244.7.249/24', '10.244.7.250/24']);
    const { call } = await node.container(latest);
    fails(await call('ADD', { config: small }), 101, /in the ranges of the network configuration are in use/);
    const ipRanges = [[{ Subnet: '10.244.7.0/24', RangeStart: '10.244.7.60', RangeEnd: '10.244.7.69' }]];
    assert.equal(
      (await of({ ...small, runtimeConfig: { ipRanges } }))[0],
      '10.244.7.60/24',
      'the capability first',
    );
    const asked = { runtimeConfig: { ips: ['10.244.7.9'] }, ...small };
    fails(await call('ADD', { config: asked }), 7, /10\.244\.7\.9 is not a pod address/);
  }, dualStack);
  for (const [ipam, message] of [
    [{ subnet: '10.9.0.0/24' }, /ipam\.subnet is "10\.9\.0\.0\/24", which is outside/],
    [{ subnet: '10.244.0.0/16' }, /ipam\.subnet is "10\.244\.0\.0\/16", which is outside/],
    [{ ranges: [[{ subnet: 'fd00::/64' }]] }, /ipam\.ranges is "fd00::\/64"/],
    [{ ranges: [[{ subnet: '10.244.7.0/25' }], [{ subnet: '10.244.7.128/25' }]] }, /one IPv4 address/],
    [{ rangeStart: '10.244.8.1' }, /ipam\.rangeStart is "10\.244\.8\.1"/],
    [{ rangeStart: '10.244.7.9', rangeEnd: '10.244.7.3' }, /no range/],
    [{ gateway: '10.244.7.254' }, /ipam\.gateway is "10\.244\.7\.254"/],
  ] as const)
    await refused({ ipam }, message);
});

test('resolvConf and the capability dns are in the result', async () => {
  const resolvConf = join(shared.node.directory, 'resolv.conf');
  writeFileSync(resolvConf, '# comment\nnameserver 10.0.0.10\nsearch a.example b.example\noptions ndots:5\n');
  const { result } = await added(shared.node, { ipam: { resolvConf } });
  const fromFile = { nameservers: ['10.0.0.10'], search: ['a.example', 'b.example'], options: ['ndots:5'] };
  assert.deepEqual(result.dns, fromFile);
  const dns = { nameservers: ['10.0.0.11'] };
  assert.deepEqual((await added(shared.node, { ipam: { resolvConf }, dns })).result.dns, dns);
  const runtimeConfig = { dns: { Servers: ['10.0.0.12'], Searches: ['c.example'], Options: null } };
  const { result: both } = await added(shared.node, { dns, runtimeConfig });
  assert.deepEqual(both.dns, { nameservers: ['10.0.0.12'], search: ['c.example'] });
  await refused({ ipam: { resolvConf: '/nowhere' } }, /ipam\.resolvConf is "\/nowhere".*ENOENT/);
});

test('routes have the MTU, MSS, priority, table and scope that are wanted', async () => {
  const routes = [
    { dst: '198.51.100.0/24', mtu: 1300, advmss: 1200, priority: 77 },
    { dst: '203.0.113.0/24', table: 1234, gw: '10.244.7.1' },
    { dst: '192.0.2.0/24', scope: 253 },
  ];
  const { pod, result, call } = await added(shared.node, { ipam: { routes } });
  const shown = await pod.exec('ip', ['route', 'show', 'table', 'all']);
  assert.match(
    shown,
    /198\.51\.100\.0\/24 via 10\.244\.7\.1 dev eth0 proto static metric 77 mtu 1300 advmss 1200/,
  );
  assert.match(shown, /203\.0\.113\.0\/24 via 10\.244\.7\.1 dev eth0 table 1234/);
  assert.match(shown, /192\.0\.2\.0\/24 dev eth0 proto static scope link/);
  const own = result.routes.slice(-3);
  assert.deepEqual(own, [{ ...routes[0], gw: '10.244.7.1' }, routes[1], routes[2]]);
  assert.equal((await call('CHECK', { config: { prevResult: result } })).status, 0);
});

test('the MTU: the smallest that the pod’s addresses work with, and the largest of a device', async () => {
  const { pod, result } = await added(shared.node, { mtu: 68 });
  assert.equal((await link(pod, 'eth0')).mtu, 68);
  assert.equal((await link(pod, 'eth0')).addr_info[0].local, result.ips[0].address.split('/')[0]);
  assert.equal(
    (await link((await added(shared.node, { delegate: { mtu: 65_535 } })).pod, 'eth0')).mtu,
    65_535,
  );
  await withCniNode(async (node) => {
    const { call } = await node.container(latest);
    fails(await call('ADD', { config: { mtu: 1279 } }), 7, /mtu is 1279.*at least 1280/);
    assert.equal((await call('ADD', { config: { mtu: 1280 } })).json.ips.length, 2);
  }, dualStack);
});

test('snat, masqAll and markMasqBit: who is masqueraded on its way to a host port', async () => {
  await withOutsideClient(async (node, client) => {
    const portMappings = [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }];
    for (const [options, reached, rules] of [
      [{}, true, /-j CNI-HOSTPORT-SETMARK/],
      [{ snat: false }, false, /-A CNI-HOSTPORT-TWILL -p tcp/],
      [{ markMasqBit: 4 }, true, /--set-xmark 0x10\/0x10/],
      [{ masqAll: true }, true, /-A CNI-HOSTPORT-TWILL -p tcp [^\n]* -j CNI-HOSTPORT-SETMARK/],
    ] as const) {
      const { pod, call } = await added(node, { ...options, runtimeConfig: { portMappings } });
      await serveName(pod, 'pod', 80);
      assert.match(await node.namespace.exec('iptables-nft-save', ['-t', 'nat']), rules);
      assert.equal(await fetchFrom(client, '192.0.2.1', 8080), 'pod', JSON.stringify(options));
      const itself = await fetchFrom(pod, '192.0.2.1', 8080);
      assert.equal(itself, reached ? 'pod' : undefined, `to itself with ${JSON.stringify(options)}`);
      assert.equal((await call('DEL')).status, 0);
    }
  });
});

test('static bandwidth fields come before the runtime’s', async () => {
  const runtimeConfig = { bandwidth: { ingressRate: 1_000_000, ingressBurst: 1_000_000 } };
  const { result } = await added(shared.node, {
    ingressRate: 8_000_000,
    ingressBurst: 800_000,
    runtimeConfig,
  });
  const { name } = result.interfaces[1];
  assert.match(await shared.node.namespace.exec('tc', ['qdisc', 'show', 'dev', name]), /rate 8Mbit/);
});

test('a second network with a bridge of its own is refused, naming who has the address, and cuts nobody', async () => {
  await withCniNode(async (node) => {
    const { pod } = await added(node, {});
    const { call } = await node.container({ ...latest, name: 'second' });
    fails(
      await call('ADD', { config: { bridge: 'br1' } }),
      7,
      /bridge "br1" needs .* 10\.244\.7\.1, which cni0 has/,
    );
    assert.equal((await node.namespace.run('ip', ['link', 'show', 'br1'])).status, 1, 'nothing is made');
    await assertReaches(pod, '10.244.7.1');
    await assertReaches(node.namespace, '10.244.7.2');
    await node.added({ config: { ...latest, name: 'third', bridge: 'br1', isGateway: false } });
    await assertReaches(node.namespace, '10.244.7.2');
  });
});
