import { type Iptables, type IptablesVariant, openIptables } from '../kernel/iptables.ts';
import { listNftTable } from '../kernel/nft.ts';
import { detectVariant } from '../kernel/used-iptables.ts';
import { chainDocument, chainRules, jumpRule, type StandingChain } from '../masquerade/plan/iptables.ts';
import { nftTableText } from '../masquerade/plan/nftables.ts';
import { nftTable, type TrafficChain, type TrafficRules, trafficChains } from '../masquerade/plan/rules.ts';
import { describeError, isTwillError } from '../model/error.ts';
import type { Difference } from './plan/difference.ts';
import { compareLines } from './plan/lines.ts';
import type { AgentState } from './plan/state.ts';

/** Chains that iptables cannot print are said to be so. */
type Standing = StandingChain | { readonly unreadable: string };

async function standing(tool: Iptables, { table, name, parent }: TrafficChain): Promise<Standing> {
  try {
    const [own, lines = []] = await Promise.all([tool.list(table, name), tool.list(table, parent)]);
    return { own, parent: lines };
  } catch (error) {
    if (!isTwillError(error, 'conflict')) throw error;
    return { unreadable: describeError(error) };
  }
}

function jumpTrouble(chain: TrafficChain, parent: readonly string[]): string {
  const jumps = parent.filter((line) => line.endsWith(` -j ${chain.name}`)).length;
  if (jumps === 0) return `nothing leads to it: the rule '${jumpRule(chain)}' is missing`;
  if (jumps > 1) return `${chain.parent} leads to it ${jumps} times`;
  return `${chain.parent} leads to it only behind a rule that lets nothing past`;
}

function chainDifferences(
  tool: Iptables,
  chain: TrafficChain,
  all: TrafficRules,
  now: Standing,
): Difference[] {
  const program = `${tool.family.iptables}-${tool.variant}`;
  const object = `${chain.table} ${chain.name} (${tool.family.kubeName})`;
  const shown = (name: string): string => `${program} -t ${chain.table} -S ${name}`;
  const base = { kind: 'rules', object, show: shown(chain.name) } as const;
  if ('unreadable' in now) return [{ ...base, state: 'wrong', detail: now.unreadable }];
  const rules = chain.rules(all);
  if (chainDocument(chain, rules, all.randomFully, now) === undefined) return [];
  if (rules === undefined) return [{ ...base, state: 'foreign', detail: 'no such chain should be there' }];
  if (now.own === undefined) return [{ ...base, state: 'missing', detail: 'the chain is gone' }];
  const found: Difference[] = [];
  const wrong = compareLines(
    chainRules(chain, rules, all.randomFully),
    now.own.filter((line) => line.startsWith('-A ')),
  );
  if (wrong !== undefined) found.push({ ...base, state: 'wrong', detail: wrong });
  // The jump is the only thing left that chainDocument can be about, if the rules are right.
  const right = { ...now, own: chainRules(chain, rules, all.randomFully) };
  if (chainDocument(chain, rules, all.randomFully, right) !== undefined)
    found.push({
      ...base,
      show: shown(chain.parent),
      state: 'wrong',
      detail: jumpTrouble(chain, now.parent),
    });
  return found;
}

async function nftDifferences(all: TrafficRules, shown: ReadonlyMap<string, string>): Promise<Difference[]> {
  const name = nftTable(all.family);
  const wanted = nftTableText(all);
  const now = await listNftTable(all.family, name);
  if (now === wanted || (wanted !== undefined && now !== undefined && shown.get(wanted) === now)) return [];
  const object = `table ${all.family.nft} ${name}`;
  const base = { kind: 'rules', object, show: `nft list ${object}` } as const;
  if (wanted === undefined) return [{ ...base, state: 'foreign', detail: 'no such table should be there' }];
  if (now === undefined) return [{ ...base, state: 'missing', detail: 'the table is gone' }];
  const lines = (text: string): string[] => text.split('\n').map((line) => line.trim());
  const detail = compareLines(lines(shown.get(wanted) ?? wanted), lines(now)) ?? 'its rules differ';
  return [{ ...base, state: 'wrong', detail }];
}

/** The variant that the agent uses, or would. */
export async function agentVariant(
  { rules: { variants } }: AgentState,
  { family }: Pick<TrafficRules, 'family'>,
): Promise<IptablesVariant> {
  const known = variants.get(family.name);
  return known === 'nft' || known === 'legacy' ? known : (await detectVariant(family)).variant;
}

/** What is not as it should be of the rules for pods' traffic: masquerade, forward, guards. */
export async function trafficDifferences(state: AgentState): Promise<Difference[]> {
  const { nftables, wanted, shown } = state.rules;
  const found = await Promise.all(
    wanted.map(async (all): Promise<Difference[]> => {
      if (nftables) return nftDifferences(all, shown);
      const tool = openIptables(all.family, await agentVariant(state, all));
      const chains = await Promise.all(
        trafficChains.map(async (chain) => chainDifferences(tool, chain, all, await standing(tool, chain))),
      );
      return chains.flat();
    }),
  );
  return found.flat();
}
