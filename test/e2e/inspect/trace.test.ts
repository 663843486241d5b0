import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Lab } from '../../lab/lab.ts';
import type { LabNode } from '../../lab/node.ts';
import type { Pod } from '../../lab/pod.ts';
import { endings, trace } from '../../lab/trace.ts';
import { reach } from '../../lab/trace-lab.ts';

let lab: Lab;
let node: LabNode;
let other: LabNode;
let client: Pod;
let far: Pod;

before(async () => {
  lab = await Lab.start({ nodes: 2 });
  [node, other] = lab.nodes as [LabNode, LabNode];
  await lab.startTwill();
  client = await node.addPod('client');
  far = await other.addPod('far');
  await Promise.all([client.serve(), far.serve(), lab.client.serve()]);
  await lab.waitFor('the pods to reach each other', () => reach(client, far.ipv4, 8080));
});
after(() => lab?.stop());

const ask = (to = `${far.ipv4}:8080`, from = client.containerId) => trace(node, from, to);

test('across nodes: neighbour, forwarding entry, the tunnel and its way in the underlay, and the answer back', async () => {
  const { answer, status } = await ask();
  assert.equal(status, 0);
  assert.deepEqual(answer.notes, []);
  const [way] = answer.ways;
  assert.deepEqual(way!.packet, { source: client.ipv4, destination: far.ipv4, port: 8080 });
  const steps = way!.steps.map(({ kind, text }) => `${kind} ${text}`).join('\n');
  assert.match(steps, /route 10\.244\.\d+\.0\/24 .* dev flannel\.1/);
  assert.match(steps, /neighbour 10\.244\.\d+\.0 is [0-9a-f:]+ on flannel\.1 \(permanent\)/);
  assert.match(steps, new RegExp(`tunnel carried in UDP to ${other.ipv4}:8472 \\(VNI 1\\)`));
  assert.match(steps, new RegExp(`neighbour ${other.ipv4} is [0-9a-f:]+ on eth0`));
  assert.equal(way!.back[0]!.result, 'delivered');
  const outside = await ask(`${lab.client.ipv4}:8080`);
  assert.deepEqual(endings(outside.answer), [`${lab.client.ipv4}:8080 masqueraded`]);
  const real = await client.probe.ask({ protocol: 'tcp', address: lab.client.ipv4, port: 8080 });
  assert.equal(real.client, outside.answer.ways[0]!.packet.source);
  const coming = await ask(`${client.ipv4}:8080`, far.ipv4);
  assert.deepEqual(endings(coming.answer), [`${client.ipv4}:8080`]);
});

/** What is wrong while agent and proxy are stopped, so that it stays so. Shell commands on the node. */
interface Fault {
  readonly name: string;
  readonly make: string;
  readonly mend: string;
  readonly dies: RegExp;
}

/** `NEXT` and `VTEP` are the other node's entries, `OTHER` is its address, `FAR` the pod there. */
const faults: readonly Fault[] = [
  {
    name: 'route gone',
    make: 'ip route del NEXT/24',
    mend: 'ip route replace NEXT/24 nhid HOP proto 80',
    dies: /there is no route to the node of the pod 10\.\S+: it left by eth0 to 192\.0\.2\.1 /,
  },
  {
    name: 'a longer prefix leads elsewhere',
    make: 'ip route add FAR/32 via 10.244.99.0 dev flannel.1 onlink',
    mend: 'ip route del FAR/32',
    dies: /flannel\.1 has no neighbour entry for 10\.244\.99\.0/,
  },
  {
    name: 'a longer prefix leads to a machine that is no node',
    make: 'ip route add FAR/32 via 192.0.2.1',
    mend: 'ip route del FAR/32',
    dies: /it left by eth0 to 192\.0\.2\.1, which is no node: a route leads the pod's address FAR away/,
  },
  {
    name: 'a routing rule comes before',
    make: 'ip route add unreachable FAR/32 table 77; ip rule add to FAR/32 lookup 77',
    mend: 'ip rule del to FAR/32 lookup 77; ip route flush table 77',
    dies: /no way to 10\.\S+: a route of type unreachable/,
  },
  {
    name: 'nexthop leads elsewhere',
    make: 'ip nexthop replace id HOP via 10.244.99.0 dev flannel.1 onlink protocol 80',
    mend: 'ip nexthop replace id HOP via NEXT dev flannel.1 onlink protocol 80',
    dies: /flannel\.1 has no neighbour entry for 10\.244\.99\.0/,
  },
  {
    name: 'neighbour entry gone',
    make: 'ip neigh del NEXT dev flannel.1',
    mend: 'ip neigh replace NEXT lladdr VTEP dev flannel.1 nud permanent',
    dies: /flannel\.1 has no neighbour entry for NEXT/,
  },
  {
    name: 'neighbour entry with a MAC address that nobody has',
    make: 'ip neigh replace NEXT lladdr 0e:00:00:00:00:09 dev flannel.1 nud permanent',
    mend: 'ip neigh replace NEXT lladdr VTEP dev flannel.1 nud permanent',
    dies: /flannel\.1 has no forwarding entry for 0e:00:00:00:00:09/,
  },
  {
    name: 'forwarding entry gone',
    make: 'bridge fdb del VTEP dev flannel.1 dst OTHER',
    mend: 'bridge fdb replace VTEP dev flannel.1 dst OTHER',
    dies: /flannel\.1 has no forwarding entry for VTEP/,
  },
  {
    name: 'forwarding entry leads to where nobody is',
    make: 'bridge fdb replace VTEP dev flannel.1 dst 192.0.2.99; ping -c 1 -W 2 192.0.2.99',
    mend: 'bridge fdb replace VTEP dev flannel.1 dst OTHER',
    dies: /192\.0\.2\.99 does not answer on eth0 \(neighbour entry (failed|incomplete)\)/,
  },
  {
    name: 'no way to the other node in the underlay',
    make: 'ip route add unreachable OTHER/32',
    mend: 'ip route del unreachable OTHER/32',
    dies: /no way to OTHER: a route of type unreachable/,
  },
  {
    name: 'the VXLAN port blocked on the way out',
    make: 'iptables-nft -I OUTPUT -p udp --dport 8472 -j DROP',
    mend: 'iptables-nft -D OUTPUT -p udp --dport 8472 -j DROP',
    dies: /dropped by a rule of chain OUTPUT of iptables-nft's table filter/,
  },
  {
    name: 'the VXLAN port blocked on the way in',
    make: 'iptables-nft -I INPUT -p udp --dport 8472 -j DROP',
    mend: 'iptables-nft -D INPUT -p udp --dport 8472 -j DROP',
    dies: /answer died: dropped by a rule of chain INPUT of iptables-nft's table filter/,
  },
  {
    name: 'answers of the far pod refused',
    make: 'iptables-nft -I FORWARD -s FAR/32 -j REJECT',
    mend: 'iptables-nft -D FORWARD -s FAR/32 -j REJECT',
    dies: /answer died: rejected by a rule of chain FORWARD/,
  },
  {
    name: 'the device down',
    make: 'ip link set flannel.1 down',
    mend: 'true',
    dies: /there is no route to the node of the pod|the device flannel\.1 is down/,
  },
];

async function entries(): Promise<Readonly<Record<string, string>>> {
  const [route] = JSON.parse(await node.exec('ip', ['-j', 'route', 'show', 'dev', 'flannel.1']));
  const [neighbour] = JSON.parse(await node.exec('ip', ['-j', 'neigh', 'show', 'dev', 'flannel.1']));
  const [hop] = JSON.parse(await node.exec('ip', ['-j', 'nexthop', 'show', 'dev', 'flannel.1']));
  const next = route.dst.split('/')[0];
  return { NEXT: next, VTEP: neighbour.lladdr, HOP: String(hop.id), OTHER: other.ipv4, FAR: far.ipv4 };
}

test('while the agent is stopped: where a packet to another node dies, and a real connection too', async () => {
  const known = await entries();
  const fill = (text: string): string =>
    text.replace(/\b(NEXT|VTEP|HOP|OTHER|FAR)\b/g, (word) => known[word]!);
  const shell = (commands: string) => node.exec('sh', ['-c', fill(commands)]);
  process.kill(node.agent!.pid, 'SIGSTOP');
  try {
    for (const { name, make, mend, dies } of faults) {
      // What it does after it (a ping, say) may fail.
      await shell(`${make}; true`);
      const real = await reach(client, far.ipv4, 8080);
      const { answer, status } = await ask();
      await shell(mend);
      assert.equal(real, undefined, `${name}: a real connection dies`);
      assert.match(endings(answer).join('\n'), new RegExp(fill(dies.source)), name);
      assert.equal(status, 1, name);
      assert.match(answer.notes.join('\n'), /the agent \(process \d+\) is stopped by a signal/, name);
    }
  } finally {
    process.kill(node.agent!.pid, 'SIGCONT');
  }
  await lab.waitFor('the pods to reach each other again', () => reach(client, far.ipv4, 8080));
  assert.equal((await ask()).status, 0);
});
