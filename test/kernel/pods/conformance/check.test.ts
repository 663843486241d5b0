// The sentences of the CNI specification 1.1.0 that bind a plugin, each tested through the executable. A test's name
// begins with the section it is about. Here: CHECK.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { conformanceNode, fails } from '../../../lab/cni-conformance.ts';
import type { CniOutcome } from '../../../lab/cni-node.ts';
import { waitFor } from '../../../lab/wait.ts';

const cni = conformanceNode();

/** What CHECK says of damage on the node. The agent puts it right soon: perhaps before the question. */
function damaged(
  [program, ...args]: readonly [string, ...string[]],
  check: () => Promise<CniOutcome>,
): Promise<CniOutcome> {
  return waitFor(`CHECK to find the damage of ${program} ${args.join(' ')}`, async () => {
    await cni.node.namespace.run(program, args);
    const outcome = await check();
    return outcome.status === 0 ? undefined : outcome;
  });
}

test('2 CHECK: succeeds immediately after ADD, and says nothing', async () => {
  const { call, result } = await cni.added();
  const outcome = await call('CHECK', { config: { prevResult: result } });
  assert.deepEqual([outcome.status, outcome.stdout], [0, '']);
});

test('2 CHECK: consults prevResult for the expected interfaces and addresses', async () => {
  const { call, result } = await cni.added();
  fails(await call('CHECK'), 7, /prevResult/);
  const prevResult = { ...result, ips: [{ interface: 2, address: '10.244.7.250/24' }] };
  fails(await call('CHECK', { config: { prevResult } }), 100, /10\.244\.7\./);
});

test('2 CHECK: a later plugin may have modified resources', async () => {
  const { pod, call, result } = await cni.added();
  await pod.ip('route del default', 'addr add 198.51.100.1/24 dev eth0');
  const routes = result.routes.filter(({ dst }: { dst: string }) => dst !== '0.0.0.0/0');
  const ips = [...result.ips, { address: '198.51.100.1/24', interface: 2 }];
  assert.equal((await call('CHECK', { config: { prevResult: { ...result, routes, ips } } })).status, 0);
});

test('2 CHECK: an interface, address or route that is listed and missing is an error', async () => {
  const cases: [damage: string, message: RegExp][] = [
    ['link set eth0 down', /eth0 of the pod is down/],
    ['addr flush dev eth0', /has lost 10\.244\.7\./],
    ['route del default', /lost its route to 0\.0\.0\.0\/0/],
    ['link del eth0', /has no interface eth0/],
  ];
  for (const [damage, message] of cases) {
    const { pod, call, result } = await cni.added();
    await pod.ip(damage);
    fails(await call('CHECK', { config: { prevResult: result } }), 100, message);
  }
});

test('2 CHECK: missing traffic shaping, firewall rules or reservations are an error', async () => {
  const bandwidth = { ingressRate: 8_000_000, ingressBurst: 800_000 };
  const shaped = await cni.added({ config: { runtimeConfig: { bandwidth } } });
  const config = { prevResult: shaped.result };
  assert.equal((await shaped.call('CHECK', { config })).status, 0);
  const shaping = ['tc', 'qdisc', 'del', 'dev', shaped.result.interfaces[1].name, 'root'] as const;
  fails(await damaged(shaping, () => shaped.call('CHECK', { config })), 100, /not shaped/);
  const portMappings = [{ hostPort: 9090, containerPort: 80, protocol: 'tcp' }];
  const mapped = await cni.added({ config: { runtimeConfig: { portMappings } } });
  assert.equal((await mapped.call('CHECK', { config: { prevResult: mapped.result } })).status, 0);
  const hostPorts = ['iptables-nft', '-t', 'nat', '-F', 'CNI-HOSTPORT-TWILL'] as const;
  fails(
    await damaged(hostPorts, () => mapped.call('CHECK', { config: { prevResult: mapped.result } })),
    100,
    /host ports/,
  );
  await mapped.call('DEL');
  const guarded = await cni.added({ config: { macspoofchk: true } });
  assert.equal((await guarded.call('CHECK', { config: { prevResult: guarded.result } })).status, 0);
  const guards = ['nft', 'delete', 'table', 'bridge', 'twill-macspoofchk'] as const;
  fails(
    await damaged(guards, () => guarded.call('CHECK', { config: { prevResult: guarded.result } })),
    100,
    /forged MACs.*missing or changed/,
  );
  await guarded.call('DEL');
  const { call, result } = await cni.added();
  await call('DEL');
  fails(await call('CHECK', { config: { prevResult: result } }), 3, /has no eth0/);
});

test('2 CHECK: a container that is generally unreachable is an error', async () => {
  const { call, result } = await cni.added();
  const outcome = await damaged(['ip', 'link', 'set', result.interfaces[1].name, 'nomaster'], () =>
    call('CHECK', { config: { prevResult: result } }),
  );
  fails(outcome, 100, /no port of the bridge cni0/);
});

test('2 CHECK: a port of the bridge that is not as ADD made it is an error', async () => {
  const { call, result } = await cni.added({ config: { portIsolation: true } });
  const veth = result.interfaces[1].name;
  const config = { prevResult: result };
  assert.equal((await call('CHECK', { config })).status, 0);
  const port = ['ip', 'link', 'set', veth] as const;
  for (const [wrong, right, message] of [
    ['type bridge_slave isolated off', 'type bridge_slave isolated on', /is not isolated/],
    ['type bridge_slave hairpin off', 'type bridge_slave hairpin on', /has hairpin mode off/],
    ['down', 'up', /is down/],
  ] as const) {
    fails(await damaged([...port, ...wrong.split(' ')], () => call('CHECK', { config })), 100, message);
    await cni.node.namespace.ip(`link set ${veth} ${right}`);
  }
});
