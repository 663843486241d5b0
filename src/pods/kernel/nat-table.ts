import type { Iptables } from '../../kernel/iptables.ts';
import { listOrAsk } from '../../kernel/iptables-reading.ts';
import { isTwillError } from '../../model/error.ts';
import { concernedChains, isOwn, requiredRules } from '../plan/hostports.ts';

/** Table nat as iptables-save prints it; of one that cannot be printed, what is of host ports. */
export async function natOfHostPorts(iptables: Iptables): Promise<string> {
  try {
    return await iptables.save('nat');
  } catch (error) {
    if (!isTwillError(error, 'conflict')) throw error;
  }
  const names = ((await iptables.chains('nat')) ?? []).filter(
    (name) => isOwn(name) || concernedChains.includes(name),
  );
  const chains = await Promise.all(
    names.map(async (name) => {
      const lines = (await listOrAsk(iptables, 'nat', name, requiredRules)) ?? [];
      // One that begins otherwise could not be printed: there is more in it, which is not ours.
      const hidden = lines[0]?.startsWith('-A ') !== false ? [`-A ${name} ?`] : [];
      return [`:${name} - [0:0]`, ...lines, ...hidden];
    }),
  );
  return chains.flat().join('\n');
}
