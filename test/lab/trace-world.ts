/** A small world of Services, policies and rules of others that is made at random, and what to ask about it. */
import type { LabNode } from './node.ts';
import type { Place } from './place.ts';
import { seeded } from './random.ts';
import { serviceObject, sliceObject } from './service-fixtures.ts';
import type { ServiceLab } from './service-lab.ts';

export interface TraceWorld {
  readonly services: ServiceLab;
  readonly node: LabNode;
  readonly other: LabNode;
  /** Pods of the node that is looked at, and of the other one. */
  readonly near: readonly Place[];
  readonly far: readonly Place[];
  readonly outside: Place;
}

/** A packet to ask about. */
export interface TraceCase {
  readonly from: Place;
  /** As `twill trace` is to be told. */
  readonly fromName: string;
  readonly address: string;
  readonly port: number;
  readonly protocol: 'tcp' | 'udp';
  /** Clients keep their endpoints: shares say nothing. */
  readonly sticky: boolean;
}

interface Target {
  readonly address: string;
  readonly port: number;
  readonly protocol: 'tcp' | 'udp';
  readonly sticky: boolean;
}

/** What others do: commands, and those that undo it. */
interface Mischief {
  readonly make: string;
  readonly undo: string;
}

const portsPerRound = 8;

export class TraceRandom {
  readonly pick: (below: number) => number;
  private readonly world: TraceWorld;
  private round = 0;
  private targets: Target[] = [];

  constructor(world: TraceWorld, seed: number) {
    this.world = world;
    this.pick = seeded(seed);
  }

  private one<T>(list: readonly T[]): T {
    return list[this.pick(list.length)]!;
  }

  private chance(of: number): boolean {
    return this.pick(of) === 0;
  }

  /** Writes new Services and waits until the proxy has made rules of them. */
  async nextRound(): Promise<void> {
    const { services, near } = this.world;
    this.round++;
    this.targets = [];
    const objects = Array.from({ length: portsPerRound }, (_, index) => this.service(index)).flat();
    const sentinel = `10.97.${this.round >> 8}.${this.round & 255}`;
    const spec = { clusterIP: sentinel, ports: [{ name: 'p', port: 80, protocol: 'TCP' }] };
    const ready = [{ ip: near[0]!.ipv4, node: this.world.node.name }];
    objects.push(
      serviceObject('model/sentinel', spec),
      sliceObject('model/sentinel', [{ name: 'p', port: 8080, protocol: 'TCP' }], ready),
    );
    services.write('random.yaml', ...objects);
    await services.lab.waitFor(`round ${this.round} to be served`, () =>
      near[1]!.probe
        .ask({ protocol: 'tcp', address: sentinel, port: 80, timeoutMs: 300 })
        .catch(() => undefined),
    );
  }

  private service(index: number): Record<string, unknown>[] {
    const { near, far, node, other } = this.world;
    const protocol = this.one(['tcp', 'udp'] as const);
    const kube = protocol.toUpperCase();
    const sticky = this.chance(6);
    const number = this.round * portsPerRound + index;
    const clusterIP = `10.96.${number >> 8}.${number & 255}`;
    const balanced = this.chance(3);
    const nodePort = balanced || this.chance(2) ? 30_000 + (number % 2000) : 0;
    const external = this.chance(4) ? `203.0.113.${10 + index}` : undefined;
    const balancer = balanced ? `203.0.113.${110 + index}` : undefined;
    const spec = {
      type: balanced ? 'LoadBalancer' : nodePort === 0 ? 'ClusterIP' : 'NodePort',
      clusterIP,
      ports: [{ name: 'p', port: 80, protocol: kube, nodePort }],
      externalIPs: external === undefined ? [] : [external],
      internalTrafficPolicy: this.chance(5) ? 'Local' : 'Cluster',
      externalTrafficPolicy: nodePort !== 0 && this.chance(3) ? 'Local' : 'Cluster',
      sessionAffinity: sticky ? 'ClientIP' : 'None',
      loadBalancerSourceRanges:
        balanced && this.chance(2) ? [this.one(['198.51.100.0/24', '192.0.2.64/26'])] : [],
    };
    const all = [
      ...near.map(({ ipv4 }) => ({ ip: ipv4, node: node.name })),
      ...far.map(({ ipv4 }) => ({ ip: ipv4, node: other.name })),
    ];
    const states = [
      {},
      {},
      {},
      { ready: false, serving: true, terminating: true },
      { ready: false, serving: false },
    ];
    const endpoints = all
      .filter(() => !this.chance(2))
      .map((endpoint) => ({ ...endpoint, ...this.one(states) }));
    const base = { protocol, sticky };
    this.targets.push({ ...base, address: clusterIP, port: 80 });
    if (nodePort !== 0) this.targets.push({ ...base, address: node.ipv4, port: nodePort });
    for (const address of [external, balancer])
      if (address !== undefined) this.targets.push({ ...base, address, port: 80 });
    const status = {
      status: { loadBalancer: { ingress: balancer === undefined ? [] : [{ ip: balancer }] } },
    };
    return [
      serviceObject(`model/svc-${index}`, spec, status),
      sliceObject(`model/svc-${index}`, [{ name: 'p', port: 8080, protocol: kube }], endpoints),
    ];
  }

  /** A random packet: most to Services, some to pods, the node and the outside. */
  next(): TraceCase {
    const { near, far, node, outside } = this.world;
    const from = this.one([...near, ...near, node, outside]);
    // Between the outside and the other node's pods packets do not pass here.
    const passing = from === outside ? [...near, node] : [...near, ...far, node, outside];
    const direct = this.one(passing.filter((place) => place !== from));
    // A server of UDP that listens everywhere answers from the address nearest to the client, not from the one asked.
    const protocol = direct === node ? 'tcp' : this.one(['tcp', 'udp'] as const);
    const target = this.chance(5)
      ? { address: direct.ipv4, port: 8080, protocol, sticky: false }
      : this.one(this.targets);
    return { ...target, from, fromName: from === node ? 'node' : from.ipv4 };
  }

  /** Something that another program or a person did, or nothing. */
  mischief(): Mischief {
    const pod = this.one([...this.world.near, ...this.world.far]).ipv4;
    const rule = (words: string): Mischief => ({
      make: `iptables-${words.replace('ADD', '-I')}`,
      undo: `iptables-${words.replace('ADD', '-D').replace(/ 1 /, ' ')}`,
    });
    return this.one([
      { make: 'true', undo: 'true' },
      { make: 'true', undo: 'true' },
      rule(`nft ADD FORWARD -d ${pod} -j DROP`),
      rule(`legacy ADD FORWARD -s ${pod} -j REJECT`),
      rule(`nft -t raw ADD PREROUTING -s ${pod} -p udp -j DROP`),
      rule(`nft -t nat ADD POSTROUTING -d ${pod} -j MASQUERADE`),
      rule(`nft ADD OUTPUT -d ${pod} -p tcp -j REJECT`),
      {
        make: `nft add table inet odd; nft 'add chain inet odd f { type filter hook forward priority -5; }'; nft add rule inet odd f ip daddr { ${pod}, 10.9.9.9 } meta l4proto { tcp, sctp } drop`,
        undo: 'nft delete table inet odd',
      },
      { make: `ip route add blackhole ${pod}/32`, undo: `ip route del blackhole ${pod}/32` },
      { make: 'sysctl -q -w net.ipv4.ip_forward=0', undo: 'sysctl -q -w net.ipv4.ip_forward=1' },
      {
        make: 'sysctl -q -w net.bridge.bridge-nf-call-iptables=0',
        undo: 'sysctl -q -w net.bridge.bridge-nf-call-iptables=1',
      },
    ]);
  }
}
