import type { Backend, ServicePortEntry } from '../../plan/table.ts';
import { affinityList } from './names.ts';
import type { RenderOptions } from './options.ts';

const probabilities: string[] = [];

/** 1/n as the kernel keeps it (31 bits) and iptables-save prints it. */
function probability(n: number): string {
  probabilities[n] ??= (Math.round(0x8000_0000 / n) / 0x8000_0000).toFixed(11);
  return probabilities[n];
}

function dnatTarget(backend: Backend, v6: boolean): string {
  return v6 ? `[${backend.address}]:${backend.port}` : `${backend.address}:${backend.port}`;
}

/**
 * The DNAT rules that spread connections over endpoints, in kube-proxy's way: the i-th of n remaining rules takes 1/n of
 * what reaches it. With session affinity, clients the kernel remembers (xt_recent) come first.
 * @param backends at least one
 */
export function backendRules(
  chain: string,
  backends: readonly Backend[],
  entry: ServicePortEntry,
  options: RenderOptions,
): string {
  const protocol = entry.protocol.toLowerCase();
  const append = `-A ${chain} -p ${protocol}`;
  const mask = options.v6 ? 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff' : '255.255.255.255';
  const dnat = (backend: Backend): string => `-j DNAT --to-destination ${dnatTarget(backend, options.v6)}`;
  const remembered = (backend: Backend): string => {
    const list = affinityList(entry.name, protocol, dnatTarget(backend, options.v6), options.sha256);
    return `--name ${list} --mask ${mask} --rsource`;
  };
  const affine = entry.affinitySeconds > 0;
  const update = `--update --seconds ${entry.affinitySeconds} --reap`;
  const known = affine
    ? backends.map((backend) => `${append} -m recent ${update} ${remembered(backend)} ${dnat(backend)}`)
    : [];
  const spread = backends.map((backend, index) => {
    const left = backends.length - index;
    const chance = left > 1 ? ` -m statistic --mode random --probability ${probability(left)}` : '';
    const remember = affine ? ` -m recent --set ${remembered(backend)}` : '';
    return `${append}${chance}${remember} ${dnat(backend)}`;
  });
  return [...known, ...spread].join('\n');
}
