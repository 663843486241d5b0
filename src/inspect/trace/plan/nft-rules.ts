/** The elements in the print of `nft list map`, by their keys: of maps whose keys and values have no commas and no quotes. */
export function printedElements(print: string): Map<string, { readonly value: string | undefined }> {
  const inside = /elements = \{ ([\s\S]*?) \}\n/.exec(print)?.[1] ?? '';
  const found = new Map<string, { readonly value: string | undefined }>();
  for (const one of inside.split(',')) {
    const [key = '', value] = one.split(' : ', 2).map((part) => part.trim());
    if (key !== '') found.set(key, { value });
  }
  return found;
}

/** The document of `nft -j list table`, as chains to walk. */
import type { Rule, Table, Verdict } from './chains.ts';
import type { BaseChain, Hook } from './hooks.ts';
import type { NftContext } from './nft-effects.ts';
import { nftStatement } from './nft-statements.ts';
import type { Json } from './nft-texts.ts';
import type { SetTypes } from './nft-values.ts';

interface ListedRule {
  readonly chain: string;
  readonly handle: number;
  readonly comment?: string;
  readonly expr: readonly Json[];
}

interface ListedChain {
  readonly name: string;
  readonly type?: string;
  readonly hook?: string;
  readonly prio?: number;
  readonly policy?: string;
}

interface ListedSet {
  readonly name: string;
  readonly type: string | readonly string[];
  readonly map?: string | readonly string[];
}

type Listed = Readonly<Record<string, unknown>>;

const hooks: readonly string[] = ['prerouting', 'input', 'forward', 'output', 'postrouting'];

const typesOf = (type: string | readonly string[] | undefined): readonly string[] =>
  type === undefined ? [] : typeof type === 'string' ? type.split(' . ') : type;

function packetsOf(expr: readonly Json[]): number | undefined {
  for (const statement of expr) {
    if (typeof statement !== 'object' || statement === null) continue;
    const { counter } = statement as { counter?: { packets?: number } };
    if (typeof counter === 'object' && counter !== null) return counter.packets;
  }
  return undefined;
}

/** What `nft -a` prints of each rule, by its handle. */
function rulesAsText(print: string): Map<number, string> {
  const lines = Array.from(
    print.matchAll(/^\t\t(.*) # handle (\d+)$/gm),
    ([, text, handle]) => [Number(handle), text!] as const,
  );
  return new Map(lines.map(([handle, text]) => [handle, text.replace(/ comment "(?:[^"\\]|\\.)*"$/, '')]));
}

/** One table, and where its chains begin. */
export interface NftTable {
  readonly chains: readonly { readonly hook: Hook; readonly base: BaseChain }[];
  /** Chains at hooks that are not walked. */
  readonly elsewhere: readonly string[];
}

class NftRules implements Table {
  readonly program = 'nft';
  readonly name: string;
  private readonly listed = new Map<string, ListedRule[]>();
  private readonly read = new Map<string, readonly Rule[]>();
  private readonly texts: ReadonlyMap<number, string>;
  private readonly context: NftContext;

  constructor(name: string, items: readonly Listed[], texts: ReadonlyMap<number, string>) {
    this.name = name;
    this.texts = texts;
    const sets = new Map<string, SetTypes>();
    for (const item of items) {
      const set = (item.set ?? item.map) as ListedSet | undefined;
      if (set !== undefined) sets.set(set.name, { key: typesOf(set.type), data: typesOf(set.map) });
      const chain = item.chain as ListedChain | undefined;
      if (chain !== undefined) this.listed.set(chain.name, []);
      const rule = item.rule as ListedRule | undefined;
      if (rule !== undefined) this.listed.get(rule.chain)?.push(rule);
    }
    this.context = { table: name, sets };
  }

  rules = (chain: string): readonly Rule[] | undefined => {
    let rules = this.read.get(chain);
    const listed = this.listed.get(chain);
    if (rules === undefined && listed !== undefined) {
      rules = listed.map(({ handle, comment, expr }) => ({
        text: this.texts.get(handle) ?? JSON.stringify(expr),
        comment,
        packets: packetsOf(expr),
        statements: expr.map((statement) => nftStatement(statement, this.context)),
      }));
      this.read.set(chain, rules);
    }
    return rules;
  };
}

/**
 * @param family nft's: `ip`, `ip6`, `inet`, …
 * @param document of `nft -j`
 * @param print of `nft -a`, for the rules' text
 */
export function parseNftTable(family: string, name: string, document: string, print: string): NftTable {
  const items = (JSON.parse(document) as { nftables: readonly Listed[] }).nftables;
  const table = new NftRules(`${family} ${name}`, items, rulesAsText(print));
  const based = items.flatMap(({ chain }) => {
    const one = chain as ListedChain | undefined;
    return one?.hook === undefined ? [] : [one];
  });
  const walked = family === 'bridge' || family === 'netdev' || family === 'arp' ? [] : hooks;
  return {
    chains: based
      .filter(({ hook }) => walked.includes(hook!))
      .map(({ name: chain, hook, prio = 0, type, policy }) => ({
        hook: hook as Hook,
        base: {
          table,
          chain,
          priority: prio,
          isNat: type === 'nat',
          policy: policy === 'drop' ? 'drop' : ('accept' as Verdict),
        },
      })),
    elsewhere: based.filter(({ hook }) => !walked.includes(hook!)).map(({ name: chain }) => chain),
  };
}

/** The value in the print of `nft get element`, of a map; undefined for a set's. */
export function elementValue(print: string): string | undefined {
  const inside = /elements = \{ ([\s\S]*?) \}\n/.exec(print)?.[1];
  if (inside === undefined) return undefined;
  // Keys of concatenations have " . ", values stand behind the last " : ".
  const at = inside.replace(/"(?:[^"\\]|\\.)*"/g, (quoted) => '_'.repeat(quoted.length)).lastIndexOf(' : ');
  return at < 0 ? undefined : inside.slice(at + 3).trim();
}
