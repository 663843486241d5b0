import { KernelRefusal } from '../../kernel/errno.ts';
import type { TableChange } from '../../kernel/netlink/nftables.ts';
import type { NftTable } from '../../kernel/nft-table.ts';
import { describeError, isTwillError, TwillError } from '../../model/error.ts';
import type { ElementChange, SetElement } from '../../model/set-element.ts';
import type { Chain } from './plan/chains.ts';
import { MESSAGE_ELEMENTS, TRANSACTION_ELEMENTS } from './plan/changes.ts';
import { chainDocument, declarations, forOlderNft } from './plan/document.ts';
import { shapesMap, stampSet } from './plan/names.ts';
import { packNumber } from './plan/pack.ts';
import { readChains, type StandingRules, stampElement, stampOf } from './standing-rules.ts';

/** What should stand besides elements. */
export interface WantedChains {
  readonly chains: readonly Chain[];
  /** Chain names by number. */
  readonly shapes: ReadonlyMap<number, string>;
}

/** What was written. */
export interface Tally {
  bytes: number;
  transactions: number;
}

const textOf = ({ hook, rules }: Chain): string => [hook ?? '', ...rules].join('\n');

/** Chains in one transaction: what is sent has to fit the send buffer. */
const TRANSACTION_CHAINS = 32;
/** So few are looked at one by one. */
const FEW_CHAINS = 16;

/** Of a chain or map that is somebody else's, or holds on to ours. */
const clashes: ReadonlySet<string> = new Set(['EBUSY', 'EEXIST', 'EINVAL', 'EOPNOTSUPP', 'ELOOP', 'EMLINK']);

/**
 * Applies the first of these documents that nft takes: the others are for older ones.
 * @returns its length @throws TwillError what it says of the first of them
 */
export async function applyFirst(
  table: NftTable,
  [document = '', ...others]: readonly string[],
): Promise<number> {
  try {
    await table.apply(document);
    return document.length;
  } catch (error) {
    if (others.length === 0 || !isTwillError(error, 'invalid')) throw error;
    try {
      return await applyFirst(table, others);
    } catch (other) {
      throw isTwillError(other, 'invalid') ? error : other;
    }
  }
}

function* portions<T>(all: readonly T[], size: number): Generator<readonly T[]> {
  for (let at = 0; at < all.length; at += size) yield all.slice(at, at + size);
}

/**
 * Keeps the chains as they should be and knows which of them stand: those that all Services share through the `nft`
 * program, the many for numbers of endpoints directly.
 */
export class ChainWriter {
  private readonly table: NftTable;
  private readonly texts = new Map<string, string>();
  /** Chains that were found to stand: their words need not be put together again. */
  private readonly right = new Map<string, Chain>();
  private readonly shapes: Map<number, string>;
  private readonly stamps: Map<string, string>;
  /** The chains that were written and have no stamp yet. */
  private readonly unstamped = new Map<string, Chain>();
  /** Those that stand, ours or not. */
  private readonly names: Set<string>;
  private declared: boolean;
  /** The lists of which all without a hook, and all with one, stand. */
  private readonly done = new Map<boolean, readonly Chain[]>();

  /** @param standing what the kernel has @param wanted those of them that are right need not be written */
  constructor(table: NftTable, standing: StandingRules, { chains }: WantedChains) {
    this.table = table;
    this.shapes = new Map(standing.shapes);
    this.stamps = new Map(standing.stamps);
    this.names = new Set(standing.chains.keys());
    this.declared = standing.whole;
    for (const chain of chains) {
      const is = standing.chains.get(chain.name);
      if (is !== undefined && standing.stamps.get(chain.name) === stampOf(chain, is))
        this.texts.set(chain.name, textOf(chain));
    }
  }

  /** Whether the chains that stand, as the kernel tells them, are those that were written. */
  areThose(standing: ReadonlyMap<string, string>): boolean {
    if (standing.size !== this.texts.size) return false;
    return [...this.stamps].every(([name, stamp]) => stamp.endsWith(` ${standing.get(name)}`));
  }

  /** Writes chains and shapes that are not as they should be. @param hooked the base chains: others else */
  async write({ chains, shapes }: WantedChains, hooked: boolean, tally: Tally): Promise<void> {
    if (this.declared && this.done.get(hooked) === chains) return;
    const differing = chains.filter((chain) => (chain.hook !== undefined) === hooked && !this.isRight(chain));
    await this.writeWords(
      differing.filter(({ programs }) => programs === undefined),
      tally,
    );
    if (!hooked) {
      const programmed = differing.filter(({ programs }) => programs !== undefined);
      const missing = [...shapes].filter(([number, name]) => this.shapes.get(number) !== name);
      await this.writeNumbered(programmed, missing, tally);
    }
    this.done.set(hooked, chains);
  }

  private isRight(chain: Chain): boolean {
    if (this.right.get(chain.name) === chain) return true;
    if (this.texts.get(chain.name) !== textOf(chain)) return false;
    this.right.set(chain.name, chain);
    return true;
  }

  private async writeWords(chains: readonly Chain[], tally: Tally): Promise<void> {
    if (chains.length === 0 && this.declared) return;
    const ip = this.table.family.nft;
    const declared = this.declared ? [] : declarations(ip);
    const rules = chains.flatMap((chain) => chainDocument(ip, chain, this.names.has(chain.name)));
    const document = (lines: readonly string[]): string => [...lines, ...rules, ''].join('\n');
    tally.bytes += await applyFirst(this.table, [
      document(declared),
      ...(this.declared ? [] : [document(declared.map(forOlderNft))]),
    ]);
    tally.transactions++;
    this.declared = true;
    this.wrote(chains);
  }

  /**
   * Those that choose come first, so that what leads there finds them; then what leads to them, with the last. What the
   * kernel refuses nft is asked for.
   */
  private async writeNumbered(
    chains: readonly Chain[],
    missing: readonly (readonly [number: number, chain: string])[],
    tally: Tally,
  ): Promise<void> {
    const parts = [...portions(chains, TRANSACTION_CHAINS)];
    const [first = [], ...more] = [...portions(missing, TRANSACTION_ELEMENTS)].map((some) =>
      this.shapeChanges(some),
    );
    for (const [index, some] of (parts.length === 0 ? [[]] : parts).entries()) {
      const leads = index >= parts.length - 1 ? first : [];
      const changes = some.map(({ name, programs }) => ({ chain: name, rules: programs }));
      try {
        await this.change([...changes, ...leads], tally);
        this.wrote(some);
      } catch (error) {
        if (!isTwillError(error, 'invalid')) throw error;
        // As words they are no edition of the programs: a later look tries again.
        await this.writeWords(
          some.map((chain) => ({ ...chain, edition: undefined })),
          tally,
        );
        await this.change(leads, tally);
      }
    }
    for (const leads of more) await this.change(leads, tally);
    for (const [number, name] of missing) this.shapes.set(number, name);
  }

  private wrote(chains: readonly Chain[]): void {
    for (const chain of chains) {
      this.texts.set(chain.name, textOf(chain));
      this.right.set(chain.name, chain);
      this.names.add(chain.name);
      this.unstamped.set(chain.name, chain);
    }
  }

  private shapeChanges(missing: readonly (readonly [number: number, chain: string])[]): ElementChange[] {
    const renumbered = missing.filter(([number]) => this.shapes.has(number)).map(([number]) => number);
    const coming = missing.map(([number, goto]) => ({ key: packNumber(number), goto }));
    return [...shapesGone(renumbered), ...elementChanges(shapesMap, false, coming)];
  }

  /** Removes chains and shapes that are not wanted any more: first what leads to others. */
  async prune({ chains, shapes }: WantedChains, tally: Tally): Promise<void> {
    const kept = new Set(chains.map(({ name }) => name));
    const gone = [...this.names].filter((name) => !kept.has(name));
    const numbers = [...this.shapes.keys()].filter((number) => !shapes.has(number));
    await this.change(shapesGone(numbers), tally);
    for (const number of numbers) this.shapes.delete(number);
    for (const rules of [[], undefined])
      for (const some of portions(gone, TRANSACTION_CHAINS))
        await this.change(
          some.map((chain) => ({ chain, rules })),
          tally,
        );
    for (const name of gone) {
      this.names.delete(name);
      this.texts.delete(name);
      this.right.delete(name);
      this.unstamped.delete(name);
    }
  }

  /** Writes down what was written, for a later run, and forgets what is gone. */
  async stamp(tally: Tally): Promise<void> {
    const stale = [...this.stamps.keys()].some((name) => !this.names.has(name));
    if (this.unstamped.size === 0 && !stale) return;
    const few = this.unstamped.size <= FEW_CHAINS ? [...this.unstamped.keys()] : undefined;
    const standing = await readChains(this.table, few);
    const fresh = new Map<string, string>();
    for (const chain of this.unstamped.values()) {
      const is = standing.get(chain.name);
      if (is !== undefined) fresh.set(chain.name, stampOf(chain, is));
    }
    const gone = [...this.stamps.keys()].filter((name) => fresh.has(name) || !this.names.has(name));
    for (const names of portions([...new Set([...gone, ...fresh.keys()])], TRANSACTION_ELEMENTS))
      await this.change(stampChanges(names, this.stamps, fresh), tally);
    for (const name of gone) this.stamps.delete(name);
    for (const [name, stamp] of fresh) this.stamps.set(name, stamp);
    this.unstamped.clear();
  }

  /** @throws TwillError `invalid` where what stands in the table does not go with it */
  private async change(changes: readonly TableChange[], tally: Tally): Promise<void> {
    if (changes.length === 0) return;
    try {
      tally.bytes += await this.table.write(changes);
    } catch (error) {
      if (!(error instanceof KernelRefusal) || !clashes.has(error.errno)) throw error;
      throw new TwillError('invalid', `the kernel refused the chains: ${describeError(error)}`, error);
    }
    tally.transactions++;
  }
}

function elementChanges(set: string, deletes: boolean, all: readonly SetElement[]): ElementChange[] {
  return [...portions(all, MESSAGE_ELEMENTS)].map((elements) => ({ set, deletes, elements }));
}

function shapesGone(numbers: readonly number[]): ElementChange[] {
  return elementChanges(
    shapesMap,
    true,
    numbers.map((number) => ({ key: packNumber(number) })),
  );
}

/** @param names of chains, whose stamps come instead of those that stand */
function stampChanges(
  names: readonly string[],
  standing: ReadonlyMap<string, string>,
  fresh: ReadonlyMap<string, string>,
): ElementChange[] {
  const elements = (of: ReadonlyMap<string, string>): SetElement[] =>
    names.filter((name) => of.has(name)).map((name) => stampElement(name, fresh.get(name)));
  return [
    ...elementChanges(stampSet, true, elements(standing)),
    ...elementChanges(stampSet, false, elements(fresh)),
  ];
}
