import type { Lab } from './lab.ts';
import type { LabNode } from './node.ts';
import { servicePort } from './place.ts';
import type { Pod } from './pod.ts';

/** A Service of the scenario: the same port over TCP and UDP. */
export interface ScenarioService {
  readonly name: string;
  readonly clusterIp: string;
  readonly port: number;
  readonly nodePort?: number;
  readonly endpoints: readonly Pod[];
}

/** Three nodes with two pods each and two Services: what the demo shows and the end-to-end test checks. */
export interface Scenario {
  readonly lab: Lab;
  readonly pods: readonly Pod[];
  /** Endpoints on the first and second node, none on the third. */
  readonly web: ScenarioService & { readonly nodePort: number };
  /** One endpoint, which calls itself through it. */
  readonly mirror: ScenarioService;
  /** The node without an endpoint of `web`. */
  readonly bystander: LabNode;
}

const protocols = ['TCP', 'UDP'] as const;

function serviceYaml({ name, clusterIp, port, nodePort }: ScenarioService): string {
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
  clusterIP: ${clusterIp}
  clusterIPs: [${clusterIp}]
  ipFamilies: [IPv4]
  ports:
${ports.join('\n')}
`;
}

function sliceYaml({ name, endpoints }: ScenarioService): string {
  const ports = protocols.map(
    (protocol) => `  - { name: ${protocol.toLowerCase()}, protocol: ${protocol}, port: ${servicePort} }`,
  );
  const list = endpoints.map(
    (pod) => `  - { addresses: [${pod.ipv4}], nodeName: ${pod.node.name}, conditions: { ready: true } }`,
  );
  return `apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: ${name}-1
  namespace: demo
  labels:
    kubernetes.io/service-name: ${name}
addressType: IPv4
ports:
${ports.join('\n')}
endpoints:
${list.join('\n')}
`;
}

/** The manifests of one Service, as they would come from the Kubernetes API. */
export function manifest(service: ScenarioService): string {
  return `${serviceYaml(service)}---\n${sliceYaml(service)}`;
}

/** Starts twill on the lab's three nodes, wires the pods and publishes the Services. */
export async function playScenario(lab: Lab, progress: (line: string) => void = () => {}): Promise<Scenario> {
  const [first, second, bystander] = lab.nodes as [LabNode, LabNode, LabNode];
  progress('starting agent and proxy on every node');
  await lab.startTwill();
  progress('wiring two pods per node through the CNI executable');
  const pods = await Promise.all(
    lab.nodes.flatMap((node, index) =>
      [1, 2].map(async (number) => {
        const pod = await node.addPod(`pod${index * 2 + number}`);
        await pod.serve();
        return pod;
      }),
    ),
  );
  await lab.client.serve();
  const on = (node: LabNode): Pod[] => pods.filter((pod) => pod.node === node);
  const web = {
    name: 'web',
    clusterIp: '10.96.0.10',
    port: 80,
    nodePort: 30080,
    endpoints: [...on(first), ...on(second)],
  };
  const mirror = { name: 'mirror', clusterIp: '10.96.0.11', port: 80, endpoints: on(first).slice(0, 1) };
  progress('publishing the Services web (ClusterIP, NodePort) and mirror (ClusterIP)');
  for (const service of [web, mirror]) lab.writeManifest(`${service.name}.yaml`, manifest(service));
  return { lab, pods, web, mirror, bystander };
}
