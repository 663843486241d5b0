import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { Place } from '../../lab/place.ts';
import { endings, trace } from '../../lab/trace.ts';
import { reach, startTraceLab, type TraceLab } from '../../lab/trace-lab.ts';

let lab: TraceLab;
before(async () => {
  lab = await startTraceLab();
});
after(() => lab?.services.stop());

/** Something that is wrong: how it is made so, and made right again. */
interface Fault {
  readonly name: string;
  readonly make?: readonly string[];
  readonly mend?: readonly string[];
  /** Where the commands run; default the node. */
  readonly at?: (lab: TraceLab) => Place;
  readonly from?: (lab: TraceLab) => Place;
  /** Address and port; default the far pod's. */
  readonly to?: (lab: TraceLab) => readonly [address: string, port: number];
  readonly dies: RegExp;
}

const toFar = ({ far }: TraceLab): readonly [string, number] => [far.ipv4, 8080];
const toNear = ({ near }: TraceLab): readonly [string, number] => [near.ipv4, 8080];
const service = (address: string) => (): readonly [string, number] => [address, 80];
const nodePort =
  (port: number) =>
  ({ node }: TraceLab): readonly [string, number] => [node.ipv4, port];
const outside = (of: TraceLab): Place => of.outside;

const rule = (name: string, words: string, dies: RegExp, more: Partial<Fault> = {}): Fault => ({
  name,
  make: [`iptables-nft ${words}`],
  mend: [`iptables-nft ${words.replace(/-(I|A) /, '-D ')}`],
  dies,
  ...more,
});

const setting = (
  name: string,
  value: string,
  back: string,
  dies: RegExp,
  more: Partial<Fault> = {},
): Fault => ({
  name: `${name} ${value}`,
  make: [`sysctl -q -w ${name}=${value}`],
  mend: [`sysctl -q -w ${name}=${back}`],
  dies,
  ...more,
});

const faults: readonly Fault[] = [
  {
    name: 'a Service without endpoints',
    to: service('10.96.0.11'),
    dies: /rejected by a rule of chain KUBE-SERVICES .*shop\/none:http has no endpoints/,
  },
  {
    name: 'policy Local without an endpoint here',
    to: service('10.96.0.12'),
    dies: /dropped by .*shop\/local:http has no local endpoints/,
  },
  {
    name: 'external policy Local without an endpoint here',
    from: outside,
    to: nodePort(30_082),
    dies: /dropped by .*shop\/external:http has no local endpoints/,
  },
  {
    name: 'outside of the source ranges',
    from: outside,
    to: () => ['203.0.113.80', 80],
    dies: /dropped by .*traffic not accepted by KUBE-FW/,
  },
  rule(
    'a foreign DROP in FORWARD',
    '-I FORWARD -p tcp --dport 8080 -j DROP',
    /dropped by a rule of chain FORWARD of iptables-nft's table filter/,
  ),
  rule(
    'a foreign DROP in INPUT',
    '-I INPUT -p tcp --dport 8080 -m comment --comment closed -j DROP',
    /dropped by a rule of chain INPUT .*\("closed"\)/,
    { to: ({ node }) => [node.ipv4, 8080] },
  ),
  rule(
    'a foreign REJECT in OUTPUT',
    '-I OUTPUT -p tcp --dport 8080 -j REJECT',
    /rejected by a rule of chain OUTPUT/,
    { from: ({ node }) => node },
  ),
  rule(
    'a DROP in table mangle',
    '-t mangle -I FORWARD -p tcp --dport 8080 -j DROP',
    /chain FORWARD of iptables-nft's table mangle/,
  ),
  rule(
    'a DROP in table raw',
    '-t raw -I PREROUTING -p tcp --dport 8080 -j DROP',
    /chain PREROUTING of iptables-nft's table raw/,
  ),
  rule(
    'a DROP of answers',
    '-I FORWARD -p tcp --sport 8080 -j DROP',
    /answer died: dropped by a rule of chain FORWARD/,
  ),
  rule(
    'untracked connections to a Service',
    '-t raw -I PREROUTING -d 10.96.0.14/32 -j NOTRACK',
    /no rule has translated 10\.96\.0\.14, which is a Service's/,
    { to: service('10.96.0.14') },
  ),
  {
    name: 'policy DROP of FORWARD',
    make: ['iptables-nft -P FORWARD DROP'],
    mend: ['iptables-nft -P FORWARD ACCEPT'],
    dies: /dropped by the policy of chain FORWARD of iptables-nft's table filter/,
  },
  {
    name: 'a DROP in the other variant',
    make: ['iptables-legacy -I FORWARD -p tcp --dport 8080 -j DROP'],
    mend: ['iptables-legacy -D FORWARD -p tcp --dport 8080 -j DROP'],
    dies: /chain FORWARD of iptables-legacy's table filter/,
  },
  {
    ...rule(
      'a DROP in the pod itself',
      '-I INPUT -p tcp --dport 8080 -j DROP',
      /dropped by a rule of chain INPUT/,
    ),
    at: ({ near }) => near,
    to: toNear,
  },
  setting('net.ipv4.ip_forward', '0', '1', /net\.ipv4\.conf\.cni0\.forwarding is 0/),
  setting(
    'net.bridge.bridge-nf-call-iptables',
    '0',
    '1',
    /the answer comes from .* and 10\.96\.0\.13:80 was asked/,
    { to: service('10.96.0.13') },
  ),
  {
    name: 'rp_filter with an asymmetric route',
    make: ['sysctl -q -w net.ipv4.conf.cni0.rp_filter=1', 'ip route add CLIENT/32 via 192.0.2.1'],
    mend: ['ip route del CLIENT/32 via 192.0.2.1', 'sysctl -q -w net.ipv4.conf.cni0.rp_filter=0'],
    dies: /rp_filter of cni0 \(1\) drops it: packets to its source .* would go by eth0/,
  },
  ...['blackhole', 'unreachable', 'prohibit'].map((type) => ({
    name: `a route of type ${type}`,
    make: [`ip route add ${type} 10.244.2.2/32`],
    mend: [`ip route del ${type} 10.244.2.2/32`],
    dies: new RegExp(`no way to 10\\.244\\.2\\.2: .*${type}`),
  })),
  {
    name: 'routes gone',
    make: ['ip route del 10.244.2.0/24', 'ip route del default'],
    mend: ['ip route add default via 192.0.2.1', 'ip route add 10.244.2.0/24 via 192.0.2.12'],
    dies: /no way to 10\.244\.2\.2: .*\(E(NETUNREACH|HOSTUNREACH)\)/,
  },
  {
    name: 'the pod’s default route gone',
    at: ({ client }) => client,
    make: ['ip route del default'],
    mend: ['ip route add default via 10.244.1.1'],
    dies: /no way to 10\.244\.2\.2: no route \(ENETUNREACH\)/,
  },
  {
    name: 'the endpoint’s route back gone',
    at: ({ near }) => near,
    from: outside,
    to: toNear,
    make: ['ip route del default'],
    mend: ['ip route add default via 10.244.1.1'],
    dies: /answer died: no way to 198\.51\.100\.2: no route/,
  },
  {
    name: 'the bridge down',
    make: ['ip link set cni0 down'],
    mend: ['ip link set cni0 up'],
    dies: /the bridge cni0 is down/,
  },
  {
    name: 'the endpoint’s veth down',
    to: toNear,
    make: ['ip link set veth3 down'],
    mend: ['ip link set veth3 up'],
    dies: /nobody answers for the next hop|veth3/,
  },
  {
    name: 'the sender’s veth taken out of the bridge',
    make: ['ip link set veth2 nomaster'],
    mend: ['ip link set veth2 master cni0', 'ip link set veth2 type bridge_slave hairpin on'],
    dies: /answer died: the pod with 10\.244\.1\.2 is behind veth2, which is no port of cni0/,
  },
  {
    name: 'the endpoint’s veth taken out of the bridge',
    from: outside,
    to: toNear,
    make: ['ip link set veth3 nomaster'],
    mend: ['ip link set veth3 master cni0', 'ip link set veth3 type bridge_slave hairpin on'],
    dies: /the pod with 10\.244\.1\.3 is behind veth3, which is no port of cni0|no port of cni0 leads to/,
  },
  {
    name: 'the pod’s device down',
    at: ({ near }) => near,
    from: outside,
    to: toNear,
    make: ['ip link set eth0 down'],
    mend: ['ip link set eth0 up', 'ip route add default via 10.244.1.1'],
    dies: /the bridge port veth3 has no carrier/,
  },
  {
    name: 'hairpin off',
    from: ({ near }) => near,
    to: service('10.96.0.13'),
    make: ['ip link set veth3 type bridge_slave hairpin off'],
    mend: ['ip link set veth3 type bridge_slave hairpin on'],
    dies: /veth3 would have to send back .* hairpin mode is off/,
  },
  {
    name: 'isolated ports',
    to: toNear,
    make: [
      'ip link set veth2 type bridge_slave isolated on',
      'ip link set veth3 type bridge_slave isolated on',
    ],
    mend: [
      'ip link set veth2 type bridge_slave isolated off',
      'ip link set veth3 type bridge_slave isolated off',
    ],
    dies: /nobody answers for the next hop|isolated from each other/,
  },
  {
    name: 'a wrong neighbour entry of the endpoint',
    from: outside,
    to: toNear,
    make: ['ip neigh replace 10.244.1.3 lladdr 0e:00:00:00:00:01 dev cni0 nud permanent'],
    mend: ['ip neigh del 10.244.1.3 dev cni0'],
    dies: /no port of cni0 leads to 0e:00:00:00:00:01/,
  },
  {
    name: 'an address that the pod has lost',
    at: ({ near }) => near,
    from: outside,
    to: toNear,
    make: ['ip address del 10.244.1.3/24 dev eth0'],
    mend: ['ip address add 10.244.1.3/24 dev eth0', 'ip route add default via 10.244.1.1'],
    dies: /nobody on cni0 has 10\.244\.1\.3|eth0\.forwarding is 0/,
  },
];

test('there are thirty faults and more', () => assert.ok(faults.length >= 30, `${faults.length}`));

async function run(place: Place, commands: readonly string[] = []): Promise<void> {
  for (const command of commands) {
    const [program = '', ...args] = command.replace('CLIENT', lab.client.ipv4).split(' ');
    await place.exec(program, args);
  }
}

for (const fault of faults)
  test(`where it dies, and a real connection too: ${fault.name}`, async () => {
    const { at = (of) => of.node, from = (of) => of.client, to = toFar, make, mend, dies } = fault;
    const [place, sender, [address, port]] = [at(lab), from(lab), to(lab)];
    const args = [sender === lab.node ? 'node' : sender.ipv4, `${address}:${port}`];
    await run(place, make);
    try {
      const real = await reach(sender, address, port);
      assert.equal(real, undefined, 'a real connection dies');
      const { answer, status } = await trace(lab.node, ...args);
      assert.match(endings(answer).join('\n'), dies);
      assert.equal(status, 1);
    } finally {
      await run(place, mend);
    }
  });

test('where nothing is wrong any more all of it arrives', async () => {
  const ways = faults.filter(({ make }) => make !== undefined);
  const asked = new Map(
    ways.map(({ from = (of) => of.client, to = toFar }) => {
      const [sender, [address, port]] = [from(lab), to(lab)];
      return [`${sender.name} ${address}:${port}`, { sender, address, port }];
    }),
  );
  for (const [name, { sender, address, port }] of asked) {
    const from = sender === lab.node ? 'node' : sender.ipv4;
    // First: what the kernel found out about neighbours while something was wrong is put right by it.
    await lab.services.lab.waitFor(`an answer: ${name}`, () => reach(sender, address, port));
    assert.equal((await trace(lab.node, from, `${address}:${port}`)).status, 0, name);
  }
});
