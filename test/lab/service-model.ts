/** A small world of Services that changes at random, and what kube-proxy would make of a packet in it. */

import { parseEndpointSlice, parseService } from '../../src/services/plan/parse.ts';
import type { EndpointSlice, Service } from '../../src/services/plan/service.ts';
import { type ApiState, kubeProxyEndings, type NodeSetting } from './kube-proxy-reading.ts';
import { type Ending, inNetwork, type Packet } from './packet-walker.ts';
import { seeded } from './random.ts';
import { type EndpointSpec, serviceObject, sliceObject } from './service-fixtures.ts';

export const nodeName = 'node-a';
export const nodeAddress = '192.0.2.1';
const outsider = '198.51.100.9';

const usual: NodeSetting = {
  name: nodeName,
  address: nodeAddress,
  local: new Set([nodeAddress, '127.0.0.1']),
  isPod: (address) => address.startsWith('10.244.'),
  contains: (network, address) => inNetwork(address, network),
};

interface ModelService {
  readonly object: Record<string, unknown>;
  readonly clusterIP: string;
  readonly externalIP: string | undefined;
  readonly loadBalancerIP: string | undefined;
  readonly nodePort: number;
  readonly protocol: 'TCP' | 'UDP' | 'SCTP';
}

export type ModelChange =
  | { readonly kind: 'service'; readonly key: string; readonly value: Service | undefined }
  | { readonly kind: 'slice'; readonly key: string; readonly value: EndpointSlice | undefined };

const sliceNames = ['one', 'two', 'three'];

export class ServiceModel {
  private readonly random: (below: number) => number;
  private readonly count: number;
  private readonly services = new Map<number, ModelService>();
  private readonly slices = new Map<string, Record<string, unknown>>();

  private readonly node: NodeSetting;

  /** @param mode kube-proxy's, whose reading says where packets end */
  constructor(count: number, seed: number, mode: NodeSetting['mode'] = 'iptables') {
    this.node = { ...usual, mode };
    this.count = count;
    this.random = seeded(seed);
  }

  /** Makes one random change and says it as a source would. */
  change(): ModelChange {
    const index = this.random(this.count);
    return this.random(3) === 0 ? this.changeService(index) : this.changeSlice(index);
  }

  /**
   * A random packet to a Service, and all the places where it may end.
   * @param absentToo ask about Services that do not exist, too
   */
  question(absentToo: boolean): { packet: Packet; endings: Ending[] } {
    let index = this.random(this.count);
    while (!absentToo && !this.services.has(index)) index = this.random(this.count);
    const service = this.services.get(index) ?? this.makeService(index);
    const source = [podAddress(nodeName, this.random(40)), nodeAddress, outsider][this.random(3)]!;
    const targets: { destination: string; port: number }[] = [{ destination: service.clusterIP, port: 80 }];
    if (service.externalIP !== undefined) targets.push({ destination: service.externalIP, port: 80 });
    if (service.loadBalancerIP !== undefined) targets.push({ destination: service.loadBalancerIP, port: 80 });
    if (service.nodePort !== 0) targets.push({ destination: nodeAddress, port: service.nodePort });
    const target = targets[this.random(targets.length)]!;
    const protocol = service.protocol.toLowerCase() as Packet['protocol'];
    const packet: Packet = { ...target, source, protocol, fromNode: source === nodeAddress };
    return { packet, endings: kubeProxyEndings(this.states(index), this.node, packet) };
  }

  private changeService(index: number): ModelChange {
    const name = `model/svc-${index}`;
    if (this.services.has(index) && this.random(4) === 0) {
      this.services.delete(index);
      return { kind: 'service', key: name, value: undefined };
    }
    const service = this.makeService(index);
    this.services.set(index, service);
    return { kind: 'service', key: name, value: parseService(service.object).value };
  }

  private makeService(index: number): ModelService {
    const balanced = this.random(4) === 0;
    const nodePort = balanced || this.random(3) === 0 ? 30_000 + index : 0;
    const externalIP = this.random(6) === 0 ? `203.0.${110 + (index >> 8)}.${index & 255}` : undefined;
    const externalLocal = nodePort !== 0 && this.random(3) === 0;
    const internalLocal = this.random(8) === 0;
    const protocol = (['TCP', 'UDP', 'SCTP'] as const)[index % 3]!;
    const loadBalancerIP = balanced ? `203.1.${110 + (index >> 8)}.${index & 255}` : undefined;
    const ranges = balanced && this.random(2) === 0;
    const clusterIP = `10.96.${index >> 8}.${index & 255}`;
    const spec = {
      type: balanced ? 'LoadBalancer' : nodePort !== 0 ? 'NodePort' : 'ClusterIP',
      clusterIP,
      ports: [{ name: 'p', port: 80, protocol, nodePort }],
      externalIPs: externalIP === undefined ? [] : [externalIP],
      externalTrafficPolicy: externalLocal ? 'Local' : 'Cluster',
      internalTrafficPolicy: internalLocal ? 'Local' : 'Cluster',
      sessionAffinity: this.random(6) === 0 ? 'ClientIP' : 'None',
      loadBalancerSourceRanges: ranges ? ['198.51.100.0/24'] : [],
    };
    const ingress = loadBalancerIP === undefined ? [] : [{ ip: loadBalancerIP }];
    const object = serviceObject(`model/svc-${index}`, spec, { status: { loadBalancer: { ingress } } });
    return { object, clusterIP, externalIP, loadBalancerIP, nodePort, protocol };
  }

  private changeSlice(index: number): ModelChange {
    const suffix = sliceNames[this.random(sliceNames.length)]!;
    const name = `model/svc-${index}/${suffix}`;
    const key = `model/svc-${index}-${suffix}`;
    if (this.slices.has(name) && this.random(4) === 0) {
      this.slices.delete(name);
      return { kind: 'slice', key, value: undefined };
    }
    const endpoints = Array.from({ length: this.random(5) }, () => this.makeEndpoint());
    const protocol = (['TCP', 'UDP', 'SCTP'] as const)[index % 3]!;
    const raw = sliceObject(name, [{ name: 'p', port: 8080, protocol }], endpoints);
    this.slices.set(name, raw);
    return { kind: 'slice', key, value: parseEndpointSlice(raw)!.value };
  }

  private makeEndpoint(): EndpointSpec {
    const node = this.random(3) === 0 ? nodeName : 'node-b';
    const ip = podAddress(node, this.random(40));
    const states = [
      {},
      {},
      {},
      { ready: false, serving: true, terminating: true },
      { ready: false, serving: false },
    ];
    return { ip, node, ...states[this.random(states.length)] };
  }

  /** The Service as the API shows it; nothing when it is not there. */
  private states(index: number): ApiState[] {
    const service = this.services.get(index);
    if (service === undefined) return [];
    const slices = sliceNames.flatMap((suffix) => this.slices.get(`model/svc-${index}/${suffix}`) ?? []);
    return [{ service: service.object, slices } as unknown as ApiState];
  }
}

function podAddress(node: string, number: number): string {
  return `10.244.${node === nodeName ? 1 : 2}.${10 + number}`;
}
