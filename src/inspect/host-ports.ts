import { openIptables } from '../kernel/iptables.ts';
import { listNftTable } from '../kernel/nft.ts';
import type { Family } from '../model/address.ts';
import { isTwillError, TwillError } from '../model/error.ts';
import { hostPortsOf } from '../pods/plan/hostport-rules.ts';
import {
  concernedChains,
  hasConditions,
  hostPortRules,
  ownChain,
  podChains,
  repairDocument,
} from '../pods/plan/hostports.ts';
import { hostPortTable, standsAsWanted } from '../pods/plan/nft-hostports.ts';
import type { PodRecord } from '../pods/plan/pod.ts';
import type { Difference } from './plan/difference.ts';
import type { AgentState } from './plan/state.ts';
import { agentVariant } from './traffic-rules.ts';

/** Of the table of nftables. Host ports with conditions are closed there, as the agent says. */
async function tableDifferences(family: Family, records: readonly PodRecord[]): Promise<Difference[]> {
  const rules = hostPortsOf(records, family).filter(({ conditions }) => conditions.length === 0);
  const name = `${family.nft} ${hostPortTable}`;
  const text = await listNftTable(family, hostPortTable);
  if (standsAsWanted(family, text, rules)) return [];
  const base = { kind: 'host ports', object: `table ${name}`, show: `nft list table ${name}` } as const;
  return text === undefined
    ? [{ ...base, state: 'missing', detail: 'the table is gone: host ports of pods do not answer' }]
    : [
        {
          ...base,
          state: 'wrong',
          detail: 'the rules of host ports, or what leads to them, are not as they should be',
        },
      ];
}

/** What is not as it should be of the rules of pods' host ports. */
export async function hostPortDifferences(
  state: AgentState,
  records: readonly PodRecord[],
): Promise<Difference[]> {
  const found: Difference[] = [];
  const unknown: string[] = [];
  for (const { family } of state.network?.families ?? []) {
    const rules = hostPortRules(records, family);
    if (rules.length === 0) continue;
    if (state.rules.tool === 'nftables') {
      found.push(...(await tableDifferences(family, records)));
      continue;
    }
    // How iptables prints what somebody wrote into a configuration is known only by trying.
    if (rules.some(hasConditions)) {
      unknown.push(family.kubeName);
      continue;
    }
    const names = [...concernedChains, ...podChains(rules)];
    const iptables = openIptables(family, await agentVariant(state, { family }));
    const program = `${family.iptables}-${iptables.variant}`;
    const base = {
      kind: 'host ports',
      object: `nat ${ownChain} (${family.kubeName})`,
      show: `${program} -t nat -S ${ownChain}`,
    } as const;
    try {
      const chains = await Promise.all(names.map((chain) => iptables.list('nat', chain)));
      const text = chains.map((lines, index) =>
        lines === undefined ? '' : [`:${names[index]} - [0:0]`, ...lines, ''].join('\n'),
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
  if (unknown.length > 0)
    throw new TwillError(
      'unavailable',
      `pods have host ports with conditions (${unknown.join(', ')}): the agent alone knows how these are printed`,
    );
  return found;
}
