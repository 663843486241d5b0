import { inNetns, type Netns } from '../../kernel/netns.ts';
import { noTable } from '../../kernel/nft.ts';
import { isOfIptables, type ListedTable, listNftTables } from '../../kernel/nft-tables.ts';
import { type RunResult, run } from '../../kernel/process.ts';
import { legacyTables } from '../../kernel/used-iptables.ts';
import type { Family } from '../../model/address.ts';
import { describeError, isTwillError } from '../../model/error.ts';
import type { SetElement } from './plan/chains.ts';
import { iptablesChains, type RuleSet, ruleSet } from './plan/hooks.ts';
import { parseSavedTables, type SavedTable } from './plan/iptables-rules.ts';
import { elementValue, type NftTable, parseNftTable } from './plan/nft-rules.ts';

/** Runs a program in a namespace; one that is not installed, or refuses, has nothing to say. */
export async function runIn(
  netns: Netns | undefined,
  program: string,
  args: readonly string[],
): Promise<RunResult | undefined> {
  try {
    if (netns === undefined) return await run(program, args);
    // The program is started before this returns, and stays where it was started.
    const { running } = inNetns(netns, () => ({ running: run(program, args) }));
    return await running;
  } catch (error) {
    if (isTwillError(error, 'missing-program')) return undefined;
    throw error;
  }
}

interface Tables {
  readonly chains: NftTable['chains'];
  readonly unread: readonly string[];
  readonly failures: readonly string[];
}

const nothing: Tables = { chains: [], unread: [], failures: [] };

/** A kernel that lacks the interface that a program speaks has no rules there. */
const lacking = /Protocol not supported|generation id: Invalid argument|Table does not exist/;

/** What cannot be read is not empty: `none` is what the program says where there is nothing. */
function failureOf(command: string, result: RunResult, none: RegExp): string[] {
  if (result.status === 0 || none.test(result.stderr)) return [];
  return [`${command}: ${result.stderr.trim() || `status ${result.status}`}`];
}

async function readNftTable(netns: Netns | undefined, { family, name }: ListedTable): Promise<Tables> {
  const list = ['list', 'table', family, name];
  const [document, print] = await Promise.all([
    runIn(netns, 'nft', ['-j', '-t', ...list]),
    runIn(netns, 'nft', ['-a', '-t', ...list]),
  ]);
  if (document === undefined || print === undefined)
    return { ...nothing, unread: [`nftables table ${family} ${name} ('nft' is not installed)`] };
  // One that goes meanwhile has nothing to say.
  if (document.status !== 0)
    return { ...nothing, failures: failureOf(`nft ${list.join(' ')}`, document, noTable) };
  const { chains, elsewhere } = parseNftTable(family, name, document.stdout, print.stdout);
  const unread = elsewhere.map((chain) => `chain ${chain} of nftables table ${family} ${name}`);
  return { chains, unread, failures: [] };
}

function together(parts: readonly Tables[]): Tables {
  return {
    chains: parts.flatMap(({ chains }) => chains),
    unread: parts.flatMap(({ unread }) => unread),
    failures: parts.flatMap(({ failures }) => failures),
  };
}

/** The entry that a set or map has for a key. @param set `FAMILY TABLE NAME` */
export async function readElement(
  netns: Netns | undefined,
  set: string,
  key: readonly string[],
): Promise<SetElement | undefined> {
  const result = await runIn(netns, 'nft', ['get', 'element', ...set.split(' '), `{ ${key.join(' . ')} }`]);
  return result?.status === 0 ? { value: elementValue(result.stdout) } : undefined;
}

/** All tables as one of the two programs prints them: for one alone iptables-nft reads all, too. */
async function readSaved(
  netns: Netns | undefined,
  family: Family,
  variant: 'nft' | 'legacy',
): Promise<{ readonly tables: readonly SavedTable[]; readonly failures: readonly string[] }> {
  const program = `${family.iptables}-${variant}-save`;
  const result = await runIn(netns, program, ['-c']);
  if (result === undefined) {
    // nft prints those of iptables-nft, too.
    return { tables: [], failures: variant === 'nft' ? [] : [`${program}: it is not installed`] };
  }
  const tables = result.status === 0 ? parseSavedTables(result.stdout, `iptables-${variant}`) : [];
  return { tables, failures: failureOf(program, result, lacking) };
}

/** Everything that stands in a namespace for a family. */
export async function readRules(netns: Netns | undefined, family: Family): Promise<RuleSet> {
  const failures: string[] = [];
  const listed = await listNftTables(netns).catch((error: unknown) => {
    failures.push(describeError(error));
    return [];
  });
  const other = family.nft === 'ip' ? 'ip6' : 'ip';
  // nft shows of the matches of these only that there are some.
  const isShared = (table: ListedTable): boolean => isOfIptables(table, family);
  const legacy = netns === undefined ? legacyTables(family) : inNetns(netns, () => legacyTables(family));
  const saved = await Promise.all([
    ...(listed.some(isShared) ? [readSaved(netns, family, 'nft')] : []),
    ...(legacy.length > 0 ? [readSaved(netns, family, 'legacy')] : []),
  ]);
  const tables = saved.flatMap((one) => one.tables);
  const printed = new Set(tables.filter(({ program }) => program === 'iptables-nft').map(({ name }) => name));
  const rest = listed.filter(
    (table) => table.family !== other && !(isShared(table) && printed.has(table.name)),
  );
  const nft = together(await Promise.all(rest.map((table) => readNftTable(netns, table))));
  const chains = [...iptablesChains(tables), ...nft.chains];
  const unreadable = saved.flatMap((one) => one.failures);
  return ruleSet(chains, nft.unread, [...failures, ...unreadable, ...nft.failures]);
}

/** The rules of this process's own namespace, which are read once for all who ask. */
export type OwnRules = (family: Family) => Promise<RuleSet>;

export function ownRules(): OwnRules {
  const read = new Map<Family, Promise<RuleSet>>();
  return (family) => {
    const rules = read.get(family) ?? readRules(undefined, family);
    read.set(family, rules);
    return rules;
  };
}
