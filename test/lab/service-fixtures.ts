/** Services and slices for tests, short to write: only what a test is about is spelt out. */

import { type Family, ipv6 } from '../../src/model/address.ts';
import type { RenderOptions } from '../../src/services/iptables/plan/options.ts';
import { sha256 } from '../../src/services/iptables/rules.ts';
import type { RenderOptions as NftOptions } from '../../src/services/nftables/plan/options.ts';
import { parseEndpointSlice, parseService } from '../../src/services/plan/parse.ts';
import { type EndpointSlice, objectKey, type Service } from '../../src/services/plan/service.ts';
import type { ServiceState } from '../../src/services/plan/tracker.ts';

export interface EndpointSpec {
  readonly ip: string;
  readonly node?: string;
  readonly ready?: boolean;
  readonly serving?: boolean;
  readonly terminating?: boolean;
  readonly zones?: readonly string[];
  readonly hintNodes?: readonly string[];
}

/** A Service as the API shows it. @param name `namespace/name` */
export function serviceObject(
  name: string,
  spec: Record<string, unknown>,
  more: Record<string, unknown> = {},
): Record<string, unknown> {
  const [namespace, short] = name.split('/');
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { namespace, name: short, ...(more.metadata as object) },
    spec,
    status: more.status ?? {},
  };
}

/** An EndpointSlice as the API shows it. @param name `namespace/service`, and an optional `/suffix` */
export function sliceObject(
  name: string,
  ports: readonly Record<string, unknown>[],
  endpoints: readonly EndpointSpec[],
): Record<string, unknown> {
  const [namespace, service, suffix = 'abc'] = name.split('/');
  return {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: {
      namespace,
      name: `${service}-${suffix}`,
      labels: { 'kubernetes.io/service-name': service },
    },
    addressType: endpoints[0]?.ip.includes(':') ? 'IPv6' : 'IPv4',
    ports,
    endpoints: endpoints.map((endpoint) => ({
      addresses: [endpoint.ip],
      nodeName: endpoint.node,
      conditions: { ready: endpoint.ready, serving: endpoint.serving, terminating: endpoint.terminating },
      hints: {
        forZones: endpoint.zones?.map((zone) => ({ name: zone })),
        forNodes: endpoint.hintNodes?.map((node) => ({ name: node })),
      },
    })),
  };
}

/** The parsed state of one Service. */
export function stateOf(
  service: Record<string, unknown>,
  ...slices: readonly Record<string, unknown>[]
): readonly [key: string, state: ServiceState] {
  const parsed: Service = parseService(service).value;
  const parsedSlices: EndpointSlice[] = slices.map((slice) => parseEndpointSlice(slice)!.value);
  return [objectKey(parsed), { service: parsed, slices: parsedSlices }];
}

/** The options goldens and kernel tests render with. */
export function renderOptionsFor(family: Family, change: Partial<RenderOptions> = {}): RenderOptions {
  return {
    v6: family === ipv6,
    fromPod: family === ipv6 ? '-s fd00:244::/56' : '-s 10.244.0.0/16',
    masqueradeAll: false,
    localhostNodePorts: family !== ipv6,
    opensLocalnet: false,
    nodePortAddresses: undefined,
    tolerateInvalid: false,
    nodeAddresses: [family === ipv6 ? 'fd00:192::1' : '192.0.2.1'],
    matches: ['bpf'],
    sha256,
    ...change,
  };
}

/** The same for the nftables renderer. */
export function nftOptionsFor(family: Family, change: Partial<NftOptions> = {}): NftOptions {
  return {
    v6: family === ipv6,
    fromPod: { network: family === ipv6 ? 'fd00:244::/56' : '10.244.0.0/16' },
    masqueradeAll: false,
    nodePortAddresses: [family === ipv6 ? 'fd00:192::1' : '192.0.2.1'],
    nodeAddresses: [family === ipv6 ? 'fd00:192::1' : '192.0.2.1'],
    ...change,
  };
}
