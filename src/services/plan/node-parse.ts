/** A Kubernetes Node (parsed JSON or YAML, not trusted) to what a proxy wants to know of the node it runs on. */
import { families, parsePrefix } from '../../model/address.ts';
import { cidr, collect, type Json, kubeAddress, list, object } from '../../model/untrusted.ts';
import type { NodeFacts } from './service.ts';

/** The cluster autoscaler's mark on a node it is about to remove; kube-proxy's health check knows it, too. */
const LEAVING_TAINT = 'ToBeDeletedByClusterAutoscaler';

/** The first address of each family, internal ones before external ones, as the API server's GetNodeHostIPs has it. */
function primaryAddresses(raw: Json): string[] {
  const entries = list(object(raw.status).addresses).map(object);
  const found = ['InternalIP', 'ExternalIP']
    .flatMap((type) => entries.filter((entry) => entry.type === type))
    .flatMap((entry) => kubeAddress(String(entry.address)) ?? []);
  return families.flatMap((family) => found.find((one) => one.family === family)?.text ?? []);
}

/** The first network of each family: the API server lets a Node have no more. */
function podNetworks(spec: Json): string[] {
  const many = list(spec.podCIDRs);
  const texts = collect(many.length > 0 ? many : [spec.podCIDR ?? ''], 'spec.podCIDRs', [], cidr);
  return families.flatMap((family) => texts.find((text) => parsePrefix(text).family === family) ?? []);
}

/** What cannot be used of a Node is as if it were not there. */
export function parseNode(input: unknown): NodeFacts {
  const raw = object(input);
  const metadata = object(raw.metadata);
  const zone = object(metadata.labels)['topology.kubernetes.io/zone'];
  const tainted = list(object(raw.spec).taints).some((taint) => object(taint).key === LEAVING_TAINT);
  return {
    zone: typeof zone === 'string' && zone !== '' ? zone : undefined,
    addresses: primaryAddresses(raw),
    podCIDRs: podNetworks(object(raw.spec)),
    leaving: tainted || (metadata.deletionTimestamp ?? null) !== null,
  };
}
