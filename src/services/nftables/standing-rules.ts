import { hash } from 'node:crypto';
import type { ListedChain, NftTable } from '../../kernel/nft-table.ts';
import type { SetElement } from '../../model/set-element.ts';
import type { Chain } from './plan/chains.ts';
import { joinedKey } from './plan/changes.ts';
import { type Elements, noElements } from './plan/elements.ts';
import { affinityMap, setNames, shapesMap, stampSet } from './plan/names.ts';
import { packNumber, unpackNumber } from './plan/pack.ts';

/** What the kernel has of our table. */
export interface StandingRules {
  /** It has all sets and maps, and its chains see packets. */
  readonly whole: boolean;
  /** It is there, and its chains see no packet. */
  readonly dormant: boolean;
  readonly elements: Elements;
  /** Chain names by number. */
  readonly shapes: ReadonlyMap<number, string>;
  /** By name, each with a digest of what the kernel says of it. */
  readonly chains: ReadonlyMap<string, string>;
  /** What was written, by chain: see {@link stampOf}. */
  readonly stamps: ReadonlyMap<string, string>;
}

function digest(parts: readonly (string | Uint8Array)[]): string {
  const text = parts.map((part) => (typeof part === 'string' ? part : Buffer.from(part).toString('hex')));
  return hash('sha256', text.join('\n'), 'hex').slice(0, 16);
}

function chainDigest({ hook, rules }: ListedChain): string {
  return digest([hook, ...rules]);
}

/**
 * Says that a chain was written with these words, and how the kernel has put them: a later run that would write the same
 * words, and hears the same of the kernel, need not write them. (How nft prints a rule depends on its version.)
 */
export function stampOf({ name, hook, rules, edition }: Chain, standing: string): string {
  const words = [hook ?? '', ...rules, ...(edition === undefined ? [] : [String(edition)])];
  return `${name} ${digest(words)} ${standing}`;
}

/** The element that holds a chain's stamp. */
export function stampElement(chain: string, stamp: string | undefined): SetElement {
  const number = Buffer.from(hash('sha256', chain, 'hex').slice(0, 8), 'hex').readUInt32LE(0);
  return { key: packNumber(number), comment: stamp };
}

/** What the kernel says of each chain, by name. @param only of these; undefined for all */
export async function readChains(table: NftTable, only?: readonly string[]): Promise<Map<string, string>> {
  const chains = only === undefined ? await table.chains() : await table.chainsOf(only);
  return new Map(chains.map((chain) => [chain.name, chainDigest(chain)]));
}

async function readStamps(table: NftTable): Promise<Map<string, string>> {
  const stamps = new Map<string, string>();
  await table.elements(
    stampSet,
    () => stamps.clear(),
    ({ comment = '' }) => stamps.set(comment.split(' ')[0]!, comment),
  );
  return stamps;
}

async function readShapes(table: NftTable): Promise<Map<number, string>> {
  const shapes = new Map<number, string>();
  await table.elements(
    shapesMap,
    () => shapes.clear(),
    ({ key, chain = '' }) => shapes.set(unpackNumber(key), chain),
  );
  return shapes;
}

export async function readStanding(table: NftTable): Promise<StandingRules> {
  const elements = noElements();
  const sets = await table.sets();
  const v6 = table.family.bits === 128;
  for (const set of setNames) {
    if (!sets.has(set)) continue;
    const found = elements[set];
    await table.elements(
      set,
      () => found.clear(),
      ({ key, end, data = '' }) => found.set(joinedKey(set, key, end, v6), data),
    );
  }
  const state = await table.state();
  return {
    dormant: state === 'dormant',
    whole:
      state === 'active' && [...setNames, affinityMap, shapesMap, stampSet].every((name) => sets.has(name)),
    elements,
    shapes: sets.has(shapesMap) ? await readShapes(table) : new Map(),
    chains: await readChains(table),
    stamps: sets.has(stampSet) ? await readStamps(table) : new Map(),
  };
}
