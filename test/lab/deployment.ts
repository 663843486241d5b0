/** A cluster whose nodes run what a manifest says, beside an API server that grants what it says and no more. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { stringify } from 'yaml';
import { type Certificates, makeCertificates } from './certificates.ts';
import { ManifestAccess, tokenOf } from './kube-access.ts';
import { type ApiObject, KubeApi } from './kube-api.ts';
import { Lab } from './lab.ts';
import type { Manifest } from './manifests.ts';
import type { LabNode } from './node.ts';
import { PodRuntime } from './pod-container.ts';

type FamilyName = 'ipv4' | 'ipv6';

/** Where the API would be served by a proxy; nobody does at first. */
const apiServices: Readonly<Record<FamilyName, { host: string; port: number }>> = {
  ipv4: { host: '10.96.0.1', port: 443 },
  ipv6: { host: 'fd00:10:96::1', port: 443 },
};
const apiAddresses: Readonly<Record<FamilyName, string>> = { ipv4: '192.0.2.1', ipv6: '2001:db8:0:1::1' };
const serviceSubnets: Readonly<Record<FamilyName, string>> = {
  ipv4: '10.96.0.0/12',
  ipv6: 'fd00:10:96::/108',
};
const podSubnets: Readonly<Record<FamilyName, string>> = { ipv4: '10.244.0.0/16', ipv6: 'fd00:10:244::/56' };

export interface Deployment {
  readonly lab: Lab;
  readonly api: KubeApi;
  readonly access: ManifestAccess;
  readonly runtimes: readonly PodRuntime[];
  readonly certificates: Certificates;
}

/** A Node as kubelet and controllers of a cluster of kubeadm's make it. */
export function nodeObject(
  node: LabNode,
  third: number,
  families: readonly FamilyName[] = ['ipv4'],
): ApiObject {
  const { name } = node;
  const subnets = { ipv4: `10.244.${third}.0/24`, ipv6: `fd00:10:244:${third}::/64` };
  const podCIDRs = families.map((family) => subnets[family]);
  return {
    kind: 'Node',
    metadata: { name, labels: { 'kubernetes.io/hostname': name }, annotations: { 'node.alpha/ttl': '0' } },
    spec: { podCIDR: podCIDRs[0], podCIDRs },
    status: {
      addresses: families.map((family) => ({ type: 'InternalIP', address: node[family] })),
      capacity: { cpu: '2' },
      conditions: [
        { type: 'Ready', status: 'False', reason: 'KubeletNotReady' },
        { type: 'NetworkUnavailable', status: 'True', reason: 'NoRouteCreated' },
      ],
    },
  } as ApiObject;
}

const kubeadmConfig = (families: readonly FamilyName[]): ApiObject =>
  ({
    kind: 'ConfigMap',
    metadata: { namespace: 'kube-system', name: 'kubeadm-config' },
    data: {
      ClusterConfiguration: stringify({
        kind: 'ClusterConfiguration',
        networking: {
          dnsDomain: 'cluster.local',
          podSubnet: families.map((family) => podSubnets[family]).join(','),
          serviceSubnet: families.map((family) => serviceSubnets[family]).join(','),
        },
      }),
    },
  }) as ApiObject;

/** What kubeadm writes for a kubelet. Its credentials are worth nothing here: nobody but the kubelet may use them. */
export function writeKubeletConfig(
  runtime: PodRuntime,
  server: string,
  place = '/etc/kubernetes/kubelet.conf',
): void {
  const path = runtime.hostPath(place);
  mkdirSync(dirname(path), { recursive: true });
  const config = {
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'default-cluster', cluster: { server, 'certificate-authority-data': 'bm9uZQ==' } }],
    contexts: [{ name: 'default-context', context: { cluster: 'default-cluster', user: 'default-auth' } }],
    'current-context': 'default-context',
    users: [{ name: 'default-auth', user: { 'client-certificate': '/var/lib/kubelet/pki/none.pem' } }],
  };
  writeFileSync(path, stringify(config), { mode: 0o600 });
}

export interface DeploymentOptions {
  readonly manifests: readonly Manifest[];
  readonly nodes: number;
  readonly imageRoot?: string;
  /** Of underlay, pods and Services; IPv4 unless given. */
  readonly families?: readonly FamilyName[];
}

/** Nodes that kubelets have just joined: no pod network, no proxy, no CNI configuration. */
export async function startDeployment(options: DeploymentOptions): Promise<Deployment> {
  // `npm run image -- --check` has the image's file system here.
  const { manifests, nodes, imageRoot = process.env.TWILL_IMAGE_ROOT, families = ['ipv4'] } = options;
  const [first] = families as [FamilyName];
  const underlay = families.length === 2 ? 'dual' : first;
  const lab = await Lab.start({ nodes, underlay, networkConfig: null });
  try {
    const directory = join(lab.dir, 'api');
    mkdirSync(directory);
    const address = apiAddresses[first];
    const certificates = await makeCertificates(directory, [address]);
    const { server, ca } = certificates;
    const tls = { cert: readFileSync(server.certificate), key: readFileSync(server.key) };
    const host = first === 'ipv6' ? `[${address}]` : address;
    const api = await KubeApi.startInside(lab.underlay.path, host, tls);
    const access = new ManifestAccess(manifests);
    api.access = access;
    api.put(kubeadmConfig(families));
    const runtimes = lab.nodes.map((node, index) => {
      api.put(nodeObject(node, index + 1, families));
      const runtime = new PodRuntime({
        node,
        manifests,
        ...(imageRoot === undefined ? {} : { imageRoot }),
        serviceAccount: (name) => ({ token: tokenOf(name, node.name), ca: readFileSync(ca, 'utf8') }),
        apiService: apiServices[first],
      });
      writeKubeletConfig(runtime, api.url);
      return runtime;
    });
    return { lab, api, access, runtimes, certificates };
  } catch (error) {
    await lab.stop();
    throw error;
  }
}

export async function stopDeployment({ lab, api }: Deployment): Promise<void> {
  await api.stop();
  await lab.stop();
}
