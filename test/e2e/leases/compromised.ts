import assert from 'node:assert/strict';
import { Etcd3 } from 'etcd3';
import { stringify } from 'yaml';
import type { Credentials } from '../../lab/etcd.ts';
import { etcdPrefix, type Lab, withLab } from '../../lab/lab.ts';
import type { LabNode } from '../../lab/node.ts';
import { servicePort } from '../../lab/place.ts';
import type { Pod } from '../../lab/pod.ts';
import { subnetKeys } from '../../lab/two-nodes.ts';
import { healthFlags } from '../agent/readiness.ts';
import { flannelLease } from '../overlay/state.ts';

/** The user that all nodes share, as flanneld needs it: it may write all leases. */
export const sharedUser = { username: 'node', password: 'every node has it' };

export const flagsOf = ({ username, password }: Credentials): string[] => [
  `--etcd-username=${username}`,
  `--etcd-password=${password}`,
  ...healthFlags,
];

export const clusterIp = '10.96.0.50';

const service = [
  {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'web', namespace: 'default' },
    spec: { clusterIP: clusterIp, ports: [{ port: 80, targetPort: servicePort }] },
  },
  (address: string) => ({
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { name: 'web-1', namespace: 'default', labels: { 'kubernetes.io/service-name': 'web' } },
    addressType: 'IPv4',
    ports: [{ name: '', port: servicePort, protocol: 'TCP' }],
    endpoints: [{ addresses: [address], conditions: { ready: true } }],
  }),
] as const;

/** A lease's value. */
export const value = (ip: string, mac: string): string =>
  JSON.stringify({ PublicIP: ip, BackendType: 'vxlan', BackendData: { VNI: 1, VtepMAC: mac } });

/** Counts what the node receives that is for others: what is encapsulated, and what is not. */
export async function watchPackets(node: LabNode): Promise<() => Promise<string>> {
  const rules = [
    'add table inet watch',
    'add chain inet watch in { type filter hook prerouting priority -400; }',
    'add rule inet watch in iifname eth0 udp dport 8472 counter',
    'add rule inet watch in iifname eth0 ip daddr { 10.244.0.0/16, 10.96.0.0/16 } counter',
  ];
  await node.namespace.exec('nft', ['-f', '-'], { input: `${rules.join('\n')}\n` });
  return () => node.exec('nft', ['list', 'table', 'inet', 'watch']);
}

export interface Stage {
  readonly lab: Lab;
  readonly one: LabNode;
  readonly two: LabNode;
  readonly three: LabNode;
  readonly pods: readonly [Pod, Pod];
  readonly attacker: Etcd3;
  /** The value of a node's lease, and where it is. */
  readonly lease: (node: LabNode) => Promise<{ name: string; mac: string; value: string; etcdLease: string }>;
}

/**
 * A cluster whose third node will be compromised; it is the oldest.
 * @param users of the nodes, by their place, who are already required by etcd
 */
export async function onStage(
  lab: Lab,
  users: readonly Credentials[],
  work: (made: Stage) => Promise<void>,
): Promise<void> {
  const attacker = new Etcd3({ hosts: lab.etcd.localEndpoint, auth: users[2]! });
  try {
    await work(await stage(lab, users, attacker));
  } finally {
    attacker.close();
  }
}

async function stage(lab: Lab, users: readonly Credentials[], attacker: Etcd3): Promise<Stage> {
  const [one, two, three] = lab.nodes as [LabNode, LabNode, LabNode];
  const start = (index: number) => lab.nodes[index]!.startAgent(flagsOf(users[index]!));
  await start(2);
  await Promise.all([start(0), start(1)]);
  const pods = [await one.addPod('a'), await two.addPod('b')] as const;
  for (const pod of pods) await pod.serve();
  lab.writeManifest('web.yaml', `${stringify(service[0])}---\n${stringify(service[1](pods[1].ipv4))}`);
  await Promise.all([one, two].map((node) => node.startProxy()));
  const lease = async (node: LabNode) => {
    const keys = await lab.etcd.keys(subnetKeys);
    const found = keys.find((key) => key.value.includes(`"PublicIP":"${node.ipv4}"`));
    assert.ok(found, `no lease of ${node.name}`);
    const mac = /VtepMAC":"([^"]+)/.exec(found.value)?.[1] ?? '';
    return { name: found.key.slice(subnetKeys.length), mac, value: found.value, etcdLease: found.lease };
  };
  return { lab, one, two, three, pods, attacker, lease };
}

/** The stage where all nodes share one user. */
export async function onSharedStage(work: (made: Stage) => Promise<void>): Promise<void> {
  await withLab({ nodes: 3, underlay: 'ipv4' }, async (lab) => {
    await lab.etcd.requireUser(sharedUser, subnetKeys, [`${etcdPrefix}/config`]);
    await onStage(lab, [sharedUser, sharedUser, sharedUser], work);
  });
}

/** Traffic between the pods of the others goes on, and to a Service. */
export async function answers({ lab, pods: [a, b] }: Stage): Promise<void> {
  const targets = [
    [a, b.ipv4, servicePort],
    [b, a.ipv4, servicePort],
    [a, clusterIp, 80],
  ] as const;
  for (const [from, address, port] of targets)
    await lab.waitFor(`an answer from ${address}`, () =>
      from.probe.ask({ protocol: 'tcp', address, port, timeoutMs: 500 }),
    );
}

/** An administrator's lease arrives at the nodes: they follow etcd, and have looked at all that was written before. */
export async function follows({ lab, one, two }: Stage, third: number): Promise<void> {
  const { key, value: good } = flannelLease(
    third,
    `02:00:00:00:01:${third % 90}`.padEnd(17, '0'),
    `198.51.100.${third}`,
  );
  await lab.etcd.put(key, good);
  for (const node of [one, two])
    await lab.waitFor(`a later lease to arrive at ${node.name}`, async () =>
      (await node.exec('ip', ['route'])).includes(`10.244.${third}.0/24 `),
    );
}
