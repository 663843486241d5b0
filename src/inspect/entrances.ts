import { type IptablesVariant, openIptables } from '../kernel/iptables.ts';
import { openNftTable } from '../kernel/nft-table.ts';
import { type Family, families } from '../model/address.ts';
import { describeError, isTwillError } from '../model/error.ts';
import { jumps } from '../services/iptables/plan/names.ts';
import { entranceChain, tableName } from '../services/nftables/plan/names.ts';
import type { Problem } from './plan/problem.ts';
import type { ProxyState } from './plan/state.ts';
import type { Known } from './states.ts';

/** Where packets of pods enter. */
const entrance = jumps.find(({ table, chain }) => table === 'nat' && chain === 'PREROUTING')!;

/** Why no packet comes to the rules of Services; undefined where packets do. */
async function iptablesTrouble(family: Family, variant: IptablesVariant): Promise<string | undefined> {
  const iptables = openIptables(family, variant);
  const { chain, rule } = entrance;
  try {
    const lines = await iptables.list('nat', chain);
    if (lines?.includes(`-A ${chain} ${rule}`) !== true)
      return `nothing leads to them: the rule '-A ${chain} ${rule}' is missing`;
    const own = await iptables.list('nat', 'KUBE-SERVICES');
    return own === undefined ? 'the chain KUBE-SERVICES is gone' : undefined;
  } catch (error) {
    // One that cannot be printed is there.
    if (isTwillError(error, 'conflict')) return undefined;
    throw error;
  }
}

/** As {@link iptablesTrouble}, of the table of nftables. */
async function nftablesTrouble(family: Family): Promise<string | undefined> {
  const table = openNftTable(family, tableName);
  const named = `${family.nft} ${tableName}`;
  try {
    const state = await table.state();
    if (state === 'missing') return `the table ${named} is gone`;
    if (state === 'dormant') return `the table ${named} is dormant`;
    const [chain] = await table.chainsOf([entranceChain]);
    if (chain === undefined) return `the chain ${entranceChain} of the table ${named} is gone`;
    return chain.rules.length === 0
      ? `nothing leads to them: the chain ${entranceChain} of the table ${named} is empty`
      : undefined;
  } finally {
    table.close();
  }
}

/** @param look finds out why no packet comes to the family's rules */
async function entranceProblem(
  name: Family['name'],
  look: (family: Family) => Promise<string | undefined>,
): Promise<Problem[]> {
  const family = families.find((one) => one.name === name)!;
  try {
    const why = await look(family);
    if (why === undefined) return [];
    const what = `no Service is reached (${family.kubeName}), its rules are not there: ${why}`;
    return [{ severity: 'degraded', area: 'services', what, show: 'twill diff' }];
  } catch (error) {
    const what = `whether Services are reached (${family.kubeName}) is not known: ${describeError(error)}`;
    return [{ severity: 'note', area: 'unknown', what }];
  }
}

/**
 * Rules of Services that are gone as a whole: a look at all of them takes long, one at where packets enter does not.
 * What a proxy has not written yet it says itself.
 */
export async function entranceProblems({ state, live }: Known<ProxyState>): Promise<Problem[]> {
  if (state === undefined || (live && !state.ready) || state.services === 0) return [];
  const found = await Promise.all([
    ...state.families.map(({ family, variant }) =>
      entranceProblem(family, (one) => iptablesTrouble(one, variant as IptablesVariant)),
    ),
    ...state.nftables.map(({ family }) => entranceProblem(family, nftablesTrouble)),
  ]);
  return found.flat();
}
