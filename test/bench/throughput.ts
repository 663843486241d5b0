// TCP from a pod to a pod on another node, over Twill's overlay and over one set up by hand as flannel and its bridge
// plugin do, in turns.
import { withLab } from '../lab/lab.ts';
import { Namespace } from '../lab/namespace.ts';
import type { LabNode } from '../lab/node.ts';
import { Place } from '../lab/place.ts';
import type { Benchmark } from './benchmark.ts';

const port = 5001;
const rounds = 7;
const roundMs = 700;
const mac = (index: number): string => `02:00:00:00:00:0${index}`;

/** flannel's rules, as `flanneld --ip-masq` 0.26 writes them. */
function flannelRules(subnet: string): string {
  const mark = '-m comment --comment "flanneld masq"';
  return `*nat
:FLANNEL-POSTRTG - [0:0]
-A POSTROUTING ${mark} -j FLANNEL-POSTRTG
-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 ${mark} -j RETURN
-A FLANNEL-POSTRTG -s ${subnet} -d 10.245.0.0/16 ${mark} -j RETURN
-A FLANNEL-POSTRTG -s 10.245.0.0/16 -d ${subnet} ${mark} -j RETURN
-A FLANNEL-POSTRTG ! -s 10.245.0.0/16 -d ${subnet} ${mark} -j RETURN
-A FLANNEL-POSTRTG -s 10.245.0.0/16 ! -d 224.0.0.0/4 ${mark} -j MASQUERADE --random-fully
-A FLANNEL-POSTRTG ! -s 10.245.0.0/16 -d 10.245.0.0/16 ${mark} -j MASQUERADE --random-fully
COMMIT
*filter
:FLANNEL-FWD - [0:0]
-A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD
-A FLANNEL-FWD -s 10.245.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT
-A FLANNEL-FWD -d 10.245.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT
COMMIT
`;
}

/** A second overlay on a node, VNI 2 on another port, with one pod. */
async function byHand(nodes: readonly LabNode[], index: number): Promise<Place> {
  const node = nodes[index]!;
  const [own, other] = [index + 1, 2 - index];
  await node.namespace.ip(
    `link add flannel.2 address ${mac(own)} mtu 1450 type vxlan id 2 dev eth0 local ${node.ipv4} dstport 8473 nolearning`,
    `address add 10.245.${own}.0/32 dev flannel.2`,
    'link set flannel.2 up',
    'link add cni1 mtu 1450 type bridge',
    'link set cni1 up',
    `address add 10.245.${own}.1/24 dev cni1`,
    `route add 10.245.${other}.0/24 via 10.245.${other}.0 dev flannel.2 onlink`,
    `neighbor add 10.245.${other}.0 lladdr ${mac(other)} dev flannel.2 nud permanent`,
  );
  await node.exec('bridge', ['fdb', 'append', mac(other), 'dev', 'flannel.2', 'dst', nodes[1 - index]!.ipv4]);
  await node.exec('iptables-restore', ['--noflush'], { input: flannelRules(`10.245.${own}.0/24`) });
  const namespace = await Namespace.make(`byhand${own}`, node.guard);
  await node.namespace.ip(
    `link add veth1 mtu 1450 type veth peer name eth0 mtu 1450 netns ${namespace.name}`,
    'link set veth1 master cni1 up',
    'link set veth1 type bridge_slave hairpin on',
  );
  const address = `10.245.${own}.2`;
  await namespace.ip(
    `address add ${address}/24 dev eth0`,
    'link set eth0 up',
    `route add default via 10.245.${own}.1`,
  );
  return new Place(`byhand${own}`, namespace, { ipv4: address });
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!;
}

export const benchmark: Benchmark = {
  name: 'throughput',
  run: ({ progress }) =>
    withLab({ nodes: 2 }, async (lab) => {
      await Promise.all(lab.nodes.map((node) => node.startAgent()));
      const twill = await Promise.all(lab.nodes.map((node) => node.addPod('pod')));
      const hand = await Promise.all(lab.nodes.map((_, index) => byHand(lab.nodes, index)));
      const pairs = { twill, 'flannel by hand': hand } as const;
      await Promise.all([twill[1]!.probe.sink(port), hand[1]!.probe.sink(port)]);
      const figures = new Map<string, number[]>(Object.keys(pairs).map((subject) => [subject, []]));
      for (let round = 0; round <= rounds; round++) {
        progress(`  round ${round} of ${rounds}`);
        for (const [subject, [from, to]] of Object.entries(pairs) as [string, [Place, Place]][]) {
          const rate = await from.probe.flood(to.ipv4, port, roundMs);
          if (round > 0) figures.get(subject)!.push(rate); // the first one warms up
        }
      }
      const [own, other] = [...figures.values()].map(median) as [number, number];
      return [...figures.keys()].map((subject) => ({
        work: 'TCP, pod to pod across nodes',
        subject,
        value: subject === 'twill' ? own : other,
        unit: 'Mbit/s' as const,
        ...(subject === 'twill' ? { atLeast: Math.round(other * 0.97) } : {}),
      }));
    }),
};
