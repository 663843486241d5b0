import { stringify } from 'yaml';
import { replaceFile } from '../process/durable.ts';
import { kubeletServers } from './servers.ts';

/** Where distributions keep the kubeconfig of their kubelets; node images of the large clouds have the last one. */
export const kubeletPlaces = [
  '/etc/kubernetes/kubelet.conf', // kubeadm
  '/var/lib/rancher/k3s/agent/kubelet.kubeconfig',
  '/var/lib/rancher/rke2/agent/kubelet.kubeconfig',
  '/var/lib/k0s/kubelet.conf',
  '/var/snap/microk8s/current/credentials/kubelet.config',
  '/var/lib/kubelet/kubeconfig',
] as const;

export interface FindServerFlags {
  /** Where the node's files are. */
  readonly hostRoot: string;
  readonly output: string;
}

/**
 * `twill find-api-server`: writes a kubeconfig that holds the servers which this node's kubelet is told, and nothing else:
 * whoever runs for long on the node then needs not see the kubelet's credentials. Where none is found it writes one
 * without clusters, which names no server.
 */
export function findApiServer({ hostRoot, output }: FindServerFlags): void {
  const { servers, problems } = kubeletServers(kubeletPlaces, hostRoot);
  for (const problem of problems) process.stderr.write(`warning: ${problem}\n`);
  const [server] = servers;
  const clusters = server === undefined ? [] : [{ name: server.path, cluster: { server: server.url } }];
  replaceFile(output, stringify({ apiVersion: 'v1', kind: 'Config', clusters }), { mode: 0o644 });
  process.stdout.write(
    server === undefined
      ? `no kubelet's kubeconfig was found (${kubeletPlaces.join(', ')}): the API is asked at its Service address\n`
      : `${output}: ${server.url}, from ${server.path}\n`,
  );
}
