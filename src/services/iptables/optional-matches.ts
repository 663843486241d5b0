import type { Iptables } from '../../kernel/iptables.ts';
import type { PacketCounters } from '../../kernel/packet-counters.ts';
import { ipv6 } from '../../model/address.ts';
import { countedBy, packetCounters } from './plan/counters.ts';
import { toItself } from './plan/hairpin.ts';
import type { OptionalMatch } from './plan/options.ts';

/** Makes the counters. @returns false where the kernel has none, or does not let us */
async function canCount(iptables: Iptables, counters: PacketCounters): Promise<boolean> {
  const names = Object.values(packetCounters);
  try {
    for (const name of names) await counters.ensure(name);
  } catch {
    return false;
  }
  return iptables.understands(countedBy(names[0]!, { matches: ['nfacct'] }));
}

/** Which matches rules may have here that not every kernel knows; what they need is made. */
export async function optionalMatches(
  iptables: Iptables,
  counters: PacketCounters,
): Promise<readonly OptionalMatch[]> {
  const [compares, counts] = await Promise.all([
    iptables.understands(toItself(iptables.family === ipv6)),
    canCount(iptables, counters),
  ]);
  return [...(compares ? ['bpf' as const] : []), ...(counts ? ['nfacct' as const] : [])];
}
