/**
 * One table of Services for all tests of rules: goldens show the documents, kernel tests load them into both iptables
 * variants. Node is `node-a`, pods are 10.244.0.0/16 and fd00:244::/56.
 */
import type { ServiceState } from '../../src/services/plan/tracker.ts';
import { serviceObject, sliceObject, stateOf } from './service-fixtures.ts';

export interface ServiceCase {
  readonly name: string;
  readonly states: readonly (readonly [string, ServiceState])[];
}

const http = [{ name: 'http', port: 8080, protocol: 'TCP' }];
const two = [
  { ip: '10.244.1.5', node: 'node-a' },
  { ip: '10.244.2.7', node: 'node-b' },
];
const remote = [{ ip: '10.244.2.7', node: 'node-b' }];
const web = { clusterIP: '10.96.0.10', ports: [{ name: 'http', port: 80, protocol: 'TCP' }] };
const nodePort = {
  clusterIP: '10.96.0.10',
  type: 'NodePort',
  ports: [{ name: 'http', port: 80, protocol: 'TCP', nodePort: 30_080 }],
};
const balanced = { ...nodePort, type: 'LoadBalancer' };
const ingress = {
  status: { loadBalancer: { ingress: [{ ip: '203.0.113.9' }, { ip: '203.0.113.8', ipMode: 'Proxy' }] } },
};

function one(
  name: string,
  spec: Record<string, unknown>,
  endpoints: Parameters<typeof sliceObject>[2],
  more?: Record<string, unknown>,
): ServiceCase {
  return {
    name,
    states: [stateOf(serviceObject('shop/web', spec, more), sliceObject('shop/web', http, endpoints))],
  };
}

export const serviceCases: readonly ServiceCase[] = [
  { name: 'nothing', states: [] },
  one('cluster-ip', web, two),
  one('cluster-ip-no-endpoints', web, []),
  one('node-port', nodePort, two),
  one('node-port-no-endpoints', nodePort, []),
  one(
    'session-affinity',
    { ...web, sessionAffinity: 'ClientIP', sessionAffinityConfig: { clientIP: { timeoutSeconds: 600 } } },
    two,
  ),
  one('external-ips', { ...web, externalIPs: ['203.0.113.77'] }, two),
  one('load-balancer', balanced, two, ingress),
  one(
    'load-balancer-source-ranges',
    { ...balanced, loadBalancerSourceRanges: ['198.51.100.0/24', '192.0.2.0/28'] },
    two,
    ingress,
  ),
  one(
    'external-policy-local',
    { ...balanced, externalTrafficPolicy: 'Local', healthCheckNodePort: 32_000 },
    two,
    ingress,
  ),
  one('external-policy-local-none-here', { ...balanced, externalTrafficPolicy: 'Local' }, remote, ingress),
  one('internal-policy-local', { ...web, internalTrafficPolicy: 'Local' }, two),
  one('internal-policy-local-none-here', { ...web, internalTrafficPolicy: 'Local' }, remote),
  one('headless', { clusterIP: 'None', ports: [{ name: 'http', port: 80 }] }, two),
  one(
    'external-name',
    { type: 'ExternalName', externalName: 'example.org', ports: [{ name: 'http', port: 80 }] },
    two,
  ),
  one('terminating', web, [
    { ip: '10.244.1.5', node: 'node-a', ready: false, serving: true, terminating: true },
    { ip: '10.244.2.7', node: 'node-b', ready: false, serving: false, terminating: true },
  ]),
  one('topology-hints', web, [
    { ip: '10.244.1.5', node: 'node-a', zones: ['zone-a'] },
    { ip: '10.244.2.7', node: 'node-b', zones: ['zone-b'] },
  ]),
  {
    name: 'dns-tcp-and-udp',
    states: [
      stateOf(
        serviceObject('kube-system/dns', {
          clusterIP: '10.96.0.53',
          ports: [
            { name: 'dns', port: 53, protocol: 'UDP' },
            { name: 'dns-tcp', port: 53, protocol: 'TCP' },
            { name: 'dns-sctp', port: 53, protocol: 'SCTP' },
          ],
        }),
        sliceObject(
          'kube-system/dns',
          [
            { name: 'dns', port: 5353, protocol: 'UDP' },
            { name: 'dns-tcp', port: 5353, protocol: 'TCP' },
            { name: 'dns-sctp', port: 5353, protocol: 'SCTP' },
          ],
          [...two, { ip: '10.244.3.1', node: 'node-c' }],
        ),
      ),
    ],
  },
  {
    name: 'dual-stack',
    states: [
      stateOf(
        serviceObject('shop/web', {
          ...nodePort,
          clusterIPs: ['10.96.0.10', 'fd00:96::a'],
          sessionAffinity: 'ClientIP',
        }),
        sliceObject('shop/web/v4', http, two),
        sliceObject('shop/web/v6', http, [
          { ip: 'fd00:244:1::5', node: 'node-a' },
          { ip: 'fd00:244:2::', node: 'node-b' },
        ]),
      ),
    ],
  },
];
