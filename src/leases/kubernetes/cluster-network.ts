import { parse } from 'yaml';
import type { KubeClient } from '../../kubernetes/client.ts';
import { describeError, TwillError } from '../../model/error.ts';
import { kubeadmPodNetworks } from '../plan/cluster-network.ts';

/** Where kubeadm keeps what `kubeadm init` was told. */
const CONFIG_MAP = '/api/v1/namespaces/kube-system/configmaps/kubeadm-config';

/**
 * The pod networks that a cluster of kubeadm was made with.
 * @throws TwillError `unavailable` when the API cannot be asked, else by what is wrong, saying what to do
 */
export async function readClusterNetworks(client: KubeClient, signal: AbortSignal): Promise<string[]> {
  try {
    const answer = (await client.getJson(CONFIG_MAP, {}, signal)) as { data?: Record<string, string> };
    return kubeadmPodNetworks(parse(answer.data?.ClusterConfiguration ?? ''));
  } catch (cause) {
    throw new TwillError(
      'unavailable',
      `the network configuration names no Network, and kubeadm's ConfigMap kube-system/kubeadm-config does not say it either (${describeError(cause)}): give Network there`,
      cause,
    );
  }
}
