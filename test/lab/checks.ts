import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { etcdPrefix } from './lab.ts';
import type { LabNode } from './node.ts';
import { type Place, servicePort } from './place.ts';
import type { Pod } from './pod.ts';
import type { Answer } from './probe-protocol.ts';
import type { Scenario, ScenarioService } from './scenario.ts';

/** One thing that has to hold in the scenario; shown by the demo and run by the end-to-end test. */
export interface Check {
  readonly name: string;
  /** @returns what was seen, in a few words @throws Error saying what was wrong */
  readonly run: (scenario: Scenario) => Promise<string>;
}

const protocols = ['tcp', 'udp'] as const;
type Protocol = (typeof protocols)[number];

/** Asks until an answer comes: rules and routes may be on their way when a check begins. */
function ask(
  scenario: Scenario,
  from: Place,
  protocol: Protocol,
  address: string,
  port: number,
): Promise<Answer> {
  return scenario.lab.waitFor(`${from.name} to get an answer from ${address}:${port} over ${protocol}`, () =>
    from.probe.ask({ protocol, address, port, timeoutMs: 1000 }),
  );
}

/** From every place to every pod, over TCP and UDP; the pod has to see the source address itself. */
async function askPods(scenario: Scenario, pairs: readonly (readonly [Place, Pod])[]): Promise<void> {
  await Promise.all(
    pairs.flatMap(([from, to]) =>
      protocols.map(async (protocol) => {
        const answer = await ask(scenario, from, protocol, to[scenario.family], servicePort);
        assert.equal(answer.server, to.name, `asked ${to.name}`);
        if (scenario.pods.includes(from as Pod))
          assert.equal(
            answer.client,
            from[scenario.family],
            `${to.name} sees ${from.name} under another address`,
          );
      }),
    ),
  );
}

function podPairs(scenario: Scenario, wanted: (from: Pod, to: Pod) => boolean): (readonly [Pod, Pod])[] {
  return scenario.pods.flatMap((from) =>
    scenario.pods.filter((to) => from !== to && wanted(from, to)).map((to) => [from, to] as const),
  );
}

async function podsOfOneNode(scenario: Scenario): Promise<string> {
  const pairs = podPairs(scenario, (from, to) => from.node === to.node);
  await askPods(scenario, pairs);
  return `${pairs.length} pairs, TCP and UDP`;
}

async function podsAcrossNodes(scenario: Scenario): Promise<string> {
  const pairs = podPairs(scenario, (from, to) => from.node !== to.node);
  await askPods(scenario, pairs);
  return `${pairs.length} pairs, TCP and UDP, source address kept`;
}

async function nodesToPods(scenario: Scenario): Promise<string> {
  const pairs = scenario.lab.nodes.flatMap((node) => scenario.pods.map((pod) => [node, pod] as const));
  await askPods(scenario, pairs);
  return `${pairs.length} pairs, TCP and UDP`;
}

async function podsToOutside(scenario: Scenario): Promise<string> {
  for (const pod of scenario.pods) {
    for (const protocol of protocols) {
      const answer = await ask(scenario, pod, protocol, scenario.lab.client[scenario.family], servicePort);
      assert.equal(answer.client, pod.node[scenario.family], 'the client has to see the node as the source');
    }
  }
  const [pod] = scenario.pods as [Pod];
  return `the client sees ${pod.name} (${pod[scenario.family]}) as its node ${pod.node[scenario.family]}`;
}

/** Asks so often that one of four is missed by chance less than once in 10^13 times. */
async function spread(
  scenario: Scenario,
  from: Place,
  address: string,
  port: number,
  service: ScenarioService,
): Promise<string> {
  const expected = service.endpoints.map((pod) => pod.name).sort();
  const counts = new Map<string, number>();
  for (const protocol of protocols) {
    await ask(scenario, from, protocol, address, port);
    const requests = 120;
    const answers = await Promise.all(
      Array.from({ length: requests }, () => from.probe.ask({ protocol, address, port })),
    );
    const servers = answers.map((answer) => answer.server);
    assert.deepEqual([...new Set(servers)].sort(), expected, `${protocol}: the endpoints that answered`);
    for (const server of servers) counts.set(server, (counts.get(server) ?? 0) + 1);
  }
  const shares = expected.map((name) => `${name} ${counts.get(name)}`).join(', ');
  return `${address} port ${port} from ${from.name}, TCP and UDP: ${shares}`;
}

function clusterIpFromPod(scenario: Scenario): Promise<string> {
  const pod = scenario.pods.find((candidate) => candidate.node === scenario.bystander)!;
  return spread(scenario, pod, scenario.web.clusterIps[scenario.family]!, scenario.web.port, scenario.web);
}

function clusterIpFromNode(scenario: Scenario): Promise<string> {
  return spread(
    scenario,
    scenario.bystander,
    scenario.web.clusterIps[scenario.family]!,
    scenario.web.port,
    scenario.web,
  );
}

async function nodePortFromOutside(scenario: Scenario): Promise<string> {
  const { lab, bystander, web, family } = scenario;
  return await spread(scenario, lab.client, bystander[family], web.nodePort, web);
}

async function podToItself(scenario: Scenario): Promise<string> {
  const { mirror } = scenario;
  const [pod] = mirror.endpoints as [Pod];
  const address = mirror.clusterIps[scenario.family]!;
  for (const protocol of protocols) {
    const answer = await ask(scenario, pod, protocol, address, mirror.port);
    assert.equal(answer.server, pod.name);
    assert.notEqual(answer.client, pod[scenario.family], 'a hairpin connection has to be masqueraded');
  }
  return `${pod.name} through ${address} port ${mirror.port}, TCP and UDP`;
}

interface LeaseValue {
  readonly PublicIP: string;
  readonly PublicIPv6: string | null;
  readonly BackendData?: { readonly VtepMAC: string };
  readonly BackendV6Data?: { readonly VtepMAC: string };
}

/** The one key of a node, checked for the form that flanneld writes and reads. */
async function leaseOf(scenario: Scenario, node: LabNode): Promise<{ subnet: string; mac: string }> {
  const { lab, families } = scenario;
  const [with4, with6] = [families.includes('ipv4'), families.includes('ipv6')];
  const own = { PublicIP: with4 ? node.ipv4 : '0.0.0.0', PublicIPv6: with6 ? node.ipv6 : null };
  const found = (await lab.etcd.keys(`${etcdPrefix}/subnets/`)).filter(({ value }) => {
    const { PublicIP, PublicIPv6 } = JSON.parse(value) as LeaseValue;
    return PublicIP === own.PublicIP && PublicIPv6 === own.PublicIPv6;
  });
  assert.equal(found.length, 1, `${node.name} has to have one lease`);
  const { key, value, lease } = found[0]!;
  const subnet = key.slice(`${etcdPrefix}/subnets/`.length);
  const form = [with4 ? /10\.244\.\d+\.0-24/ : /0\.0\.0\.0-0/, ...(with6 ? [/fd00:[0-9a-f:]+-64/] : [])];
  assert.match(subnet, new RegExp(`^${form.map(({ source }) => source).join('&')}$`));
  const { BackendData, BackendV6Data } = JSON.parse(value) as LeaseValue;
  const mac = (BackendData ?? BackendV6Data)!.VtepMAC;
  assert.match(mac, /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/);
  const expected = {
    ...own,
    BackendType: 'vxlan',
    ...(with4 ? { BackendData: { VNI: 1, VtepMAC: mac } } : {}),
    ...(with6 ? { BackendV6Data: { VNI: 1, VtepMAC: BackendV6Data?.VtepMAC } } : {}),
  };
  assert.equal(value, JSON.stringify(expected), 'the value has to be what flanneld writes, byte for byte');
  const { TTL } = await lab.etcd.client.leaseClient.leaseTimeToLive({ ID: lease });
  assert.ok(
    Number(TTL) > 82_800 && Number(TTL) <= 86_400,
    `the lease of ${key} has to last 24 h, not ${TTL} s`,
  );
  const file = readFileSync(node.subnetFile, 'utf8');
  if (with4) assert.ok(file.includes(`\nFLANNEL_SUBNET=${subnet.replace(/\.0-24.*/, '.1/24')}\n`), file);
  return { subnet, mac };
}

async function leases(scenario: Scenario): Promise<string> {
  const found = await Promise.all(scenario.lab.nodes.map((node) => leaseOf(scenario, node)));
  return found.map(({ subnet }) => subnet.replaceAll('-', '/')).join(', ');
}

async function agentKilled(scenario: Scenario): Promise<string> {
  const [node] = scenario.lab.nodes as [LabNode];
  const [near, far] = [node, scenario.bystander].map(
    (place) => scenario.pods.find((pod) => pod.node === place)!,
  ) as [Pod, Pod];
  const before = await leaseOf(scenario, node);
  const streams = await Promise.all(
    protocols.map((protocol) =>
      far.probe.stream({ protocol, address: near[scenario.family], port: servicePort, intervalMs: 10 }),
    ),
  );
  await node.agent!.kill();
  await node.startAgent();
  const after = await leaseOf(scenario, node);
  const results = await Promise.all(streams.map((stream) => stream.end()));
  assert.deepEqual(after, before, 'subnet and VTEP MAC have to stay');
  for (const { sent, received, error } of results)
    assert.deepEqual({ received, error }, { received: sent, error: undefined });
  const sent = results.reduce((sum, result) => sum + result.sent, 0);
  return `${before.subnet.replaceAll('-', '/')} and ${before.mac} kept, ${sent} of ${sent} requests answered meanwhile`;
}

/** Nothing of the above may have ended a process. */
async function stillRunning(scenario: Scenario): Promise<string> {
  const processes = scenario.lab.processes();
  for (const process of processes) assert.ok(process.running, process.tail());
  return processes.map((process) => process.name).join(', ');
}

/** In the order in which they run. */
export const checks: readonly Check[] = [
  { name: 'leases in etcd as flanneld writes them', run: leases },
  { name: 'pod to pod on one node', run: podsOfOneNode },
  { name: 'pod to pod across nodes', run: podsAcrossNodes },
  { name: 'node to pod', run: nodesToPods },
  { name: 'pod to outside, masqueraded', run: podsToOutside },
  { name: 'ClusterIP from a pod', run: clusterIpFromPod },
  { name: 'ClusterIP from a node', run: clusterIpFromNode },
  { name: 'NodePort from outside, node without endpoint', run: nodePortFromOutside },
  { name: 'pod to itself through its Service', run: podToItself },
  { name: 'agent killed and started again', run: agentKilled },
  { name: 'every process still runs', run: stillRunning },
];
