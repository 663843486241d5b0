import { openIptables } from '../kernel/iptables.ts';
import { isTwillError } from '../model/error.ts';
import { concernedChains, hostPortRules, ownChain, repairDocument } from '../pods/plan/hostports.ts';
import type { PodRecord } from '../pods/plan/pod.ts';
import type { Difference } from './plan/difference.ts';
import type { AgentState } from './plan/state.ts';
import { agentVariant } from './traffic-rules.ts';

/** What is not as it should be of the rules of pods' host ports. */
export async function hostPortDifferences(
  state: AgentState,
  records: readonly PodRecord[],
): Promise<Difference[]> {
  const found: Difference[] = [];
  for (const { family } of state.network?.families ?? []) {
    const rules = hostPortRules(records, family);
    if (rules.length === 0) continue;
    const iptables = openIptables(family, await agentVariant(state, { family }));
    const program = `${family.iptables}-${iptables.variant}`;
    const base = {
      kind: 'host ports',
      object: `nat ${ownChain} (${family.kubeName})`,
      show: `${program} -t nat -S ${ownChain}`,
    } as const;
    try {
      const chains = await Promise.all(concernedChains.map((chain) => iptables.list('nat', chain)));
      const text = chains.map((lines, index) =>
        lines === undefined ? '' : [`:${concernedChains[index]} - [0:0]`, ...lines, ''].join('\n'),
      );
      if (repairDocument(text.join(''), rules) === undefined) continue;
      const none = chains[concernedChains.indexOf(ownChain)] === undefined;
      const detail = none
        ? 'the chain is gone: host ports of pods do not answer'
        : 'the rules of host ports, or what leads to them, are not as they should be';
      found.push({ ...base, state: none ? 'missing' : 'wrong', detail });
    } catch (error) {
      if (!isTwillError(error, 'conflict')) throw error;
      found.push({ ...base, state: 'wrong', detail: error.message });
    }
  }
  return found;
}
