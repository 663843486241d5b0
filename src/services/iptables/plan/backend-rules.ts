import type { Backend, ServicePortEntry } from '../../plan/table.ts';
import { affinityList } from './names.ts';
import type { RenderOptions } from './options.ts';

const chances: string[] = [];

/** 1/n as the kernel keeps it (31 bits) and iptables-save prints it. */
function probability(n: number): string {
  return (Math.round(0x8000_0000 / n) / 0x8000_0000).toFixed(11);
}

/** Takes one connection of `left`; empty for the last endpoint, which takes all. @returns with a space in front */
function chance(left: number): string {
  chances[left] ??= left > 1 ? ` -m statistic --mode random --probability ${probability(left)}` : '';
  return chances[left];
}

const dnat = '-j DNAT --to-destination ';

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
  const targets = backends.map((backend) => dnatTarget(backend, options.v6));
  const count = targets.length;
  if (entry.affinitySeconds === 0)
    return targets.map((target, index) => `${append}${chance(count - index)} ${dnat}${target}`).join('\n');
  const mask = options.v6 ? 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff' : '255.255.255.255';
  const lists = targets.map((target) => {
    const list = affinityList(entry.name, protocol, target, options.sha256);
    return `--name ${list} --mask ${mask} --rsource`;
  });
  const update = `-m recent --update --seconds ${entry.affinitySeconds} --reap`;
  const known = targets.map((target, index) => `${append} ${update} ${lists[index]} ${dnat}${target}`);
  const spread = targets.map(
    (target, index) => `${append}${chance(count - index)} -m recent --set ${lists[index]} ${dnat}${target}`,
  );
  return [...known, ...spread].join('\n');
}
