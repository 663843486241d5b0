import type { Lab } from './lab.ts';
import type { LabNode } from './node.ts';
import { type Addresses, servicePort } from './place.ts';
import type { Pod } from './pod.ts';

/** A Service of the scenario: the same port over TCP and UDP. */
export interface ScenarioService {
  readonly name: string;
  readonly clusterIps: Addresses;
  readonly port: number;
  readonly nodePort?: number;
  readonly endpoints: readonly Pod[];
}

export type FamilyName = 'ipv4' | 'ipv6';

const kubeNames = { ipv4: 'IPv4', ipv6: 'IPv6' };

/** Three nodes with two pods each and two Services: what the demo shows and the end-to-end test checks. */
export interface Scenario {
  readonly lab: Lab;
  /** The families of pods and Services. */
  readonly families: readonly FamilyName[];
  /** The one of them that the checks use. */
  readonly family: FamilyName;
  readonly pods: readonly Pod[];
  /** Endpoints on the first and second node, none on the third. */
  readonly web: ScenarioService & { readonly nodePort: number };
  /** One endpoint, which calls itself through it. */
  readonly mirror: ScenarioService;
  /** The node without an endpoint of `web`. */
  readonly bystander: LabNode;
}

const protocols = ['TCP', 'UDP'] as const;

function serviceYaml(service: ScenarioService, families: readonly FamilyName[]): string {
  const { name, clusterIps, port, nodePort } = service;
  const addresses = families.map((family) => `'${clusterIps[family]}'`);
  const ports = protocols.map((protocol) =>
    [
      `    - name: ${protocol.toLowerCase()}`,
      `      protocol: ${protocol}`,
      `      port: ${port}`,
      `      targetPort: ${servicePort}`,
      ...(nodePort === undefined ? [] : [`      nodePort: ${nodePort}`]),
    ].join('\n'),
  );
  return `apiVersion: v1
kind: Service
metadata:
  name: ${name}
  namespace: demo
spec:
  type: ${nodePort === undefined ? 'ClusterIP' : 'NodePort'}
  clusterIP: ${addresses[0]}
  clusterIPs: [${addresses.join(', ')}]
  ipFamilies: [${families.map((family) => kubeNames[family]).join(', ')}]
  ports:
${ports.join('\n')}
`;
}

function sliceYaml({ name, endpoints }: ScenarioService, family: FamilyName): string {
  const ports = protocols.map(
    (protocol) => `  - { name: ${protocol.toLowerCase()}, protocol: ${protocol}, port: ${servicePort} }`,
  );
  const list = endpoints.map(
    (pod) => `  - { addresses: ['${pod[family]}'], nodeName: ${pod.node.name}, conditions: { ready: true } }`,
  );
  return `apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: ${name}-${family}
  namespace: demo
  labels:
    kubernetes.io/service-name: ${name}
addressType: ${kubeNames[family]}
ports:
${ports.join('\n')}
endpoints:
${list.join('\n')}
`;
}

/** The manifests of one Service, as they would come from the Kubernetes API. */
export function manifest(service: ScenarioService, families: readonly FamilyName[]): string {
  const slices = families.map((family) => sliceYaml(service, family));
  return [serviceYaml(service, families), ...slices].join('---\n');
}

async function addPods(lab: Lab): Promise<Pod[]> {
  return await Promise.all(
    lab.nodes.flatMap((node, index) =>
      [1, 2].map(async (number) => {
        const pod = await node.addPod(`pod${index * 2 + number}`, {}, 'demo');
        await pod.serve();
        return pod;
      }),
    ),
  );
}

/** Starts twill on the lab's three nodes, wires the pods and publishes the Services. */
export async function playScenario(
  lab: Lab,
  families: readonly FamilyName[] = ['ipv4'],
  progress: (line: string) => void = () => {},
): Promise<Scenario> {
  const [first, second, bystander] = lab.nodes as [LabNode, LabNode, LabNode];
  progress('starting agent and proxy on every node');
  await lab.startTwill();
  progress('wiring two pods per node through the CNI executable');
  const pods = await addPods(lab);
  await lab.client.serve();
  const on = (node: LabNode): Pod[] => pods.filter((pod) => pod.node === node);
  const web = {
    name: 'web',
    clusterIps: { ipv4: '10.96.0.10', ipv6: 'fd00:10:96::10' },
    port: 80,
    nodePort: 30080,
    endpoints: [...on(first), ...on(second)],
  };
  const mirror = {
    name: 'mirror',
    clusterIps: { ipv4: '10.96.0.11', ipv6: 'fd00:10:96::11' },
    port: 80,
    endpoints: on(first).slice(0, 1),
  };
  progress('publishing the Services web (ClusterIP, NodePort) and mirror (ClusterIP)');
  for (const service of [web, mirror]) lab.writeManifest(`${service.name}.yaml`, manifest(service, families));
  return { lab, families, family: families[0]!, pods, web, mirror, bystander };
}
