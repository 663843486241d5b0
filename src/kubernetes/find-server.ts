import { stringify } from 'yaml';
import { replaceFile } from '../process/durable.ts';
import { kubeletServers, writtenServers } from './servers.ts';

/** Where distributions keep the kubeconfig of their kubelets; node images of the large clouds have the last one. */
export const kubeletPlaces = [
  '/etc/kubernetes/kubelet.conf', // kubeadm
  '/var/lib/rancher/k3s/agent/kubelet.kubeconfig',
  '/var/lib/rancher/rke2/agent/kubelet.kubeconfig',
  '/var/lib/k0s/kubelet.conf',
  '/var/snap/microk8s/current/credentials/kubelet.config',
  '/etc/kubernetes/kubeconfig-kubelet', // Talos
  '/etc/kubernetes/kubelet/kubeconfig', // Bottlerocket
  '/var/lib/kubelet/kubeconfig',
] as const;

export interface FindServerFlags {
  /** Where the node's files are. */
  readonly hostRoot: string;
  readonly output: string;
}

/**
 * `twill find-api-server`: writes a kubeconfig that holds the servers which this node's kubelet is told, and nothing else:
 * whoever runs for long on the node then needs not see the kubelet's credentials. A node that was another cluster's before
 * may have more than one: they are tried in turn. Where none is found it writes one without clusters.
 */
export function findApiServer({ hostRoot, output }: FindServerFlags): void {
  const { servers, problems } = kubeletServers(kubeletPlaces, hostRoot);
  for (const problem of problems) process.stderr.write(`warning: ${problem}\n`);
  const named = servers.map(({ path, url }) => ({ name: path, url }));
  replaceFile(output, stringify(writtenServers(named, problems)), { mode: 0o644 });
  for (const { path, url } of servers) process.stdout.write(`${output}: ${url}, from ${path}\n`);
  if (servers.length === 0)
    process.stdout.write(
      `no kubelet's kubeconfig was found (${kubeletPlaces.join(', ')}): the API is asked at its Service address\n`,
    );
}
