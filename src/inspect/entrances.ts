import { type IptablesVariant, openIptables } from '../kernel/iptables.ts';
import { listNftTables } from '../kernel/nft-tables.ts';
import { type Family, families } from '../model/address.ts';
import { describeError, isTwillError } from '../model/error.ts';
import { jumps } from '../services/iptables/plan/names.ts';
import { tableName } from '../services/nftables/plan/names.ts';
import type { Problem } from './plan/problem.ts';
import type { ProxyState } from './plan/state.ts';
import type { Known } from './states.ts';

/** Where packets of pods enter. */
const entrance = jumps.find(({ table, chain }) => table === 'nat' && chain === 'PREROUTING')!;

const familyOf = (name: Family['name']): Family => families.find((one) => one.name === name)!;

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
    return isTwillError(error, 'conflict') ? undefined : describeError(error);
  }
}

/**
 * Rules of Services that are gone as a whole: a look at all of them takes long, one at where packets enter does not.
 * What a proxy has not written yet it says itself.
 */
export async function entranceProblems({ state, live }: Known<ProxyState>): Promise<Problem[]> {
  if (state === undefined || (live && !state.ready) || state.services === 0) return [];
  const problem = (family: Family, why: string): Problem => ({
    severity: 'degraded',
    area: 'services',
    what: `no Service is reached (${family.kubeName}), its rules are not there: ${why}`,
    show: 'twill diff',
  });
  const found: Problem[] = [];
  for (const { family: name, variant } of state.families) {
    const family = familyOf(name);
    const why = await iptablesTrouble(family, variant as IptablesVariant);
    if (why !== undefined) found.push(problem(family, why));
  }
  if (state.nftables.length === 0) return found;
  const tables = await listNftTables();
  for (const { family: name } of state.nftables) {
    const family = familyOf(name);
    if (!tables.some((table) => table.family === family.nft && table.name === tableName))
      found.push(problem(family, `the table ${family.nft} ${tableName} is gone`));
  }
  return found;
}
