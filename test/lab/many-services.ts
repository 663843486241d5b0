import type { ApiObject } from './kube-api.ts';

export const endpointsPerService = 5;
/** At so many Services the bars hold. */
export const JUDGED = 10_000;

/** What real objects carry besides what a proxy needs. */
function metadata(name: string, labels: Record<string, string>): Record<string, unknown> {
  return {
    name,
    namespace: 'team',
    uid: '8d0e5f3c-5b0f-4a2a-9a57-3c1a3a0a7c11',
    creationTimestamp: '2026-01-01T00:00:00Z',
    labels: { 'app.kubernetes.io/managed-by': 'helm', 'app.kubernetes.io/name': name, ...labels },
    annotations: { 'meta.helm.sh/release-name': name, 'meta.helm.sh/release-namespace': 'default' },
    managedFields: ['f:metadata', 'f:spec', 'f:status'].map((field) => ({
      manager: 'kube-controller-manager',
      operation: 'Update',
      apiVersion: 'v1',
      time: '2026-01-01T00:00:00Z',
      fieldsType: 'FieldsV1',
      fieldsV1: { [field]: { 'f:labels': { '.': {}, 'f:app': {} }, 'f:annotations': { '.': {} } } },
    })),
  };
}

export function serviceName(index: number): string {
  return `service-${String(index).padStart(5, '0')}`;
}

export function clusterAddress(index: number): string {
  return `10.${96 + (index >> 16)}.${(index >> 8) & 255}.${index & 255}`;
}

export function benchService(index: number): ApiObject {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: metadata(serviceName(index), {}),
    spec: {
      type: 'ClusterIP',
      clusterIP: clusterAddress(index),
      clusterIPs: [clusterAddress(index)],
      ipFamilies: ['IPv4'],
      internalTrafficPolicy: 'Cluster',
      sessionAffinity: 'None',
      selector: { app: serviceName(index) },
      ports: [{ name: 'http', port: 80, protocol: 'TCP', targetPort: 8080 }],
    },
  } as unknown as ApiObject;
}

/** Number of an endpoint that no Service has of its own. */
export const extraEndpoint = 3_000_001;

/** Of an endpoint by its number. */
export function endpointAddress(number: number): string {
  return `10.${128 + ((number >> 16) & 63)}.${(number >> 8) & 255}.${number & 255}`;
}

/**
 * @param extra numbers of endpoints besides its own
 * @param count of its own
 */
export function benchSlice(
  index: number,
  extra: readonly number[] = [],
  count = endpointsPerService,
): ApiObject {
  const service = serviceName(index);
  const own = Array.from({ length: count }, (_, endpoint) => index * endpointsPerService + endpoint);
  return {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: metadata(`${service}-x7k2p`, { 'kubernetes.io/service-name': service }),
    addressType: 'IPv4',
    ports: [{ name: 'http', port: 8080, protocol: 'TCP' }],
    endpoints: [...own, ...extra].map((number) => ({
      addresses: [endpointAddress(number)],
      conditions: { ready: true, serving: true, terminating: false },
      nodeName: `node-${number % 500}`,
      zone: 'zone-a',
      targetRef: {
        kind: 'Pod',
        namespace: 'team',
        name: `${service}-${number}-7d9c4b`,
        uid: '0f5a3b1c-1c7e-4a4e-8f0b-0d5a3b1c1c7e',
      },
    })),
  } as unknown as ApiObject;
}

export const benchNode = {
  apiVersion: 'v1',
  kind: 'Node',
  metadata: { name: 'node-0', uid: '5b8e0d3c-6a0f-4c61-8a9b-0d5a3b1c1c7f', labels: {} },
  spec: { podCIDR: '10.128.0.0/24', podCIDRs: ['10.128.0.0/24'] },
  status: { addresses: [{ type: 'InternalIP', address: '127.0.0.1' }] },
} as unknown as ApiObject;
