import type { ApiObject } from '../../lab/kube-api.ts';
import { NamespacedKubeApi } from '../../lab/kube-api-client.ts';
import { kubeRequest } from '../../lab/kube-request.ts';
import type { Lab } from '../../lab/lab.ts';
import type { KubeAssets } from '../../lab/real/assets.ts';
import { KubeApiServer } from '../../lab/real/kube-apiserver.ts';

export interface KubeNode extends ApiObject {
  readonly metadata: ApiObject['metadata'] & { readonly annotations?: Record<string, string> };
  readonly spec?: { readonly podCIDR?: string; readonly podCIDRs?: readonly string[] };
  readonly status?: { readonly conditions?: readonly { type: string; status: string; reason: string }[] };
}

/** The prefix of flannel's annotations. */
export const flannel = 'flannel.alpha.coreos.com';

/** A node as a kubelet and the controllers make it. @param third of its podCIDR */
export function kubeNode(
  name: string,
  third: number,
  ip: string,
  annotations: Record<string, string> = {},
): KubeNode {
  return {
    kind: 'Node',
    metadata: { name, annotations },
    spec: { podCIDR: `10.244.${third}.0/24`, podCIDRs: [`10.244.${third}.0/24`] },
    status: {
      addresses: [{ type: 'InternalIP', address: ip }],
      conditions: [
        { type: 'Ready', status: 'True', reason: 'KubeletReady' },
        { type: 'NetworkUnavailable', status: 'True', reason: 'NoRouteCreated' },
      ],
    },
  } as KubeNode;
}

/** As flanneld annotates its node. */
export const flannelAnnotations = (third: number): Record<string, string> => ({
  [`${flannel}/backend-data`]: `{"VNI":1,"VtepMAC":"02:00:00:00:00:${third}"}`,
  [`${flannel}/backend-type`]: 'vxlan',
  [`${flannel}/kube-subnet-manager`]: 'true',
  [`${flannel}/public-ip`]: `192.0.2.${third}`,
});

/** The nodes of a Kubernetes API, as the tests set and read them. */
export interface KubeNodes {
  /** How the agent of a node reaches the API. */
  agentArgs(node: string): Promise<readonly string[]>;
  /** Creates the node, or makes it as given. */
  put(node: KubeNode): Promise<void>;
  delete(name: string): Promise<void>;
  /** @throws Error when there is none of that name */
  read(name: string): Promise<KubeNode>;
}

const samePodCidrs = (a: KubeNode, b: KubeNode): boolean =>
  a.spec?.podCIDRs?.join() === b.spec?.podCIDRs?.join();

/** A merge patch that makes a node's annotations these and no others: null removes one. */
function annotationsPatch(standing: KubeNode, wanted: KubeNode): object {
  const gone = Object.keys(standing.metadata.annotations ?? {}).map((name) => [name, null]);
  return { metadata: { annotations: { ...Object.fromEntries(gone), ...wanted.metadata.annotations } } };
}

/** The tests' own small API server. */
export async function ownKubeApi(lab: Lab): Promise<KubeNodes> {
  const api = await NamespacedKubeApi.start(lab.underlay, '192.0.2.1');
  return {
    agentArgs: async () => [`--kube-api-url=${api.url}`],
    async put(node) {
      const { status, text } = await kubeRequest(lab, {
        url: `${api.url}/api/v1/nodes/${node.metadata.name}`,
      });
      // A podCIDR that is set cannot be changed.
      if (status === 200 && !samePodCidrs(JSON.parse(text) as KubeNode, node))
        api.send({ delete: [{ kind: 'Node', metadata: { name: node.metadata.name } }] });
      api.send({ put: [node] });
    },
    delete: async (name) => api.send({ delete: [{ kind: 'Node', metadata: { name } }] }),
    read: async (name) => {
      const { status, text } = await kubeRequest(lab, { url: `${api.url}/api/v1/nodes/${name}` });
      if (status !== 200) throw new Error(`node ${name}: ${status}`);
      return JSON.parse(text) as KubeNode;
    },
  };
}

/** A real kube-apiserver: agents may there what daemonset.yaml says, with the tokens of pods on their nodes. */
export async function realKubeApi(lab: Lab, assets: KubeAssets): Promise<KubeNodes> {
  const api = await KubeApiServer.start(lab, assets);
  await api.applyFile('daemonset.yaml');
  const nodes = '/api/v1/nodes';
  const merge = 'application/merge-patch+json';
  const remove = async (name: string): Promise<void> => {
    await api.must('DELETE', `${nodes}/${name}`);
  };
  return {
    async agentArgs(node) {
      const token = await api.tokenOf('twill-agent', node);
      return [`--kubeconfig-file=${api.kubeconfig(`agent-of-${node}`, token)}`];
    },
    read: async (name) => JSON.parse(await api.must('GET', `${nodes}/${name}`)) as KubeNode,
    delete: remove,
    async put(node) {
      const { name, annotations } = node.metadata;
      const { status, text } = await api.call('GET', `${nodes}/${name}`);
      const standing = status === 200 ? (JSON.parse(text) as KubeNode) : undefined;
      if (standing !== undefined && samePodCidrs(standing, node)) {
        await api.must('PATCH', `${nodes}/${name}`, annotationsPatch(standing, node), { type: merge });
        return;
      }
      // A podCIDR that is set cannot be changed.
      if (standing !== undefined) await remove(name);
      const { spec, status: reported } = node;
      await api.must('POST', nodes, {
        apiVersion: 'v1',
        kind: 'Node',
        metadata: { name, annotations },
        spec,
      });
      await api.must('PATCH', `${nodes}/${name}/status`, { status: reported }, { type: merge });
    },
  };
}
