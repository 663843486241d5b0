import { inNetns, type Netns } from '../../kernel/netns.ts';
import { noTable } from '../../kernel/nft.ts';
import { type RunResult, run } from '../../kernel/process.ts';
import type { Family } from '../../model/address.ts';
import { isTwillError } from '../../model/error.ts';
import type { SetElement } from './plan/chains.ts';
import { iptablesChains, type RuleSet, ruleSet } from './plan/hooks.ts';
import { parseSavedTables } from './plan/iptables-rules.ts';
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

/** Tables that iptables-nft keeps; nft shows of their matches only that there are some. */
const iptablesTables = new Set(['raw', 'mangle', 'nat', 'filter', 'security']);

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

async function readNftTable(netns: Netns | undefined, family: string, name: string): Promise<Tables> {
  const list = ['list', 'table', family, name];
  const [document, print] = await Promise.all([
    runIn(netns, 'nft', ['-j', '-t', ...list]),
    runIn(netns, 'nft', ['-a', '-t', ...list]),
  ]);
  if (document === undefined || print === undefined) return nothing;
  // One that goes meanwhile has nothing to say.
  if (document.status !== 0)
    return { ...nothing, failures: failureOf(`nft ${list.join(' ')}`, document, noTable) };
  const { chains, elsewhere } = parseNftTable(family, name, document.stdout, print.stdout);
  const unread = elsewhere.map((chain) => `chain ${chain} of nftables table ${family} ${name}`);
  return { chains, unread, failures: [] };
}

/** @param printed names of those that iptables-nft has printed */
async function readNft(
  netns: Netns | undefined,
  family: Family,
  printed: ReadonlySet<string>,
): Promise<Tables> {
  const list = await runIn(netns, 'nft', ['-j', 'list', 'tables']);
  if (list === undefined) return { ...nothing, unread: ["tables of nftables ('nft' is not installed)"] };
  if (list.status !== 0) return { ...nothing, failures: failureOf('nft list tables', list, noTable) };
  const items = (JSON.parse(list.stdout) as { nftables: { table?: { family: string; name: string } }[] })
    .nftables;
  const other = family.nft === 'ip' ? 'ip6' : 'ip';
  const wanted = items.flatMap(({ table }) => {
    if (table === undefined || table.family === other) return [];
    const isPrinted =
      table.family === family.nft && iptablesTables.has(table.name) && printed.has(table.name);
    return isPrinted ? [] : [table];
  });
  const read = await Promise.all(wanted.map((table) => readNftTable(netns, table.family, table.name)));
  return {
    chains: read.flatMap(({ chains }) => chains),
    unread: read.flatMap(({ unread }) => unread),
    failures: read.flatMap(({ failures }) => failures),
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

/** Everything that stands in a namespace for a family. */
export async function readRules(netns: Netns | undefined, family: Family): Promise<RuleSet> {
  const variants = ['nft', 'legacy'] as const;
  const saved = await Promise.all(
    variants.map((variant) => runIn(netns, `${family.iptables}-${variant}-save`, ['-c'])),
  );
  const tables = saved.flatMap((result, index) =>
    result?.status === 0 ? parseSavedTables(result.stdout, `iptables-${variants[index]!}`) : [],
  );
  const failures = saved.flatMap((result, index) =>
    result === undefined ? [] : failureOf(`${family.iptables}-${variants[index]!}-save`, result, lacking),
  );
  const printed = new Set(tables.filter(({ program }) => program === 'iptables-nft').map(({ name }) => name));
  const nft = await readNft(netns, family, printed);
  const chains = [...iptablesChains(tables), ...nft.chains];
  return ruleSet(chains, nft.unread, [...failures, ...nft.failures]);
}
