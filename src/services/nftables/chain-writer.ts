import type { NftTable } from '../../kernel/nft-table.ts';
import type { ElementChange, SetElement } from '../../model/set-element.ts';
import type { Chain } from './plan/chains.ts';
import { chainDocument, declarations, removalDocument, shapesDocument } from './plan/document.ts';
import { stampSet } from './plan/names.ts';
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

/** Keeps the few chains as they should be, through the `nft` program, and knows which of them stand. */
export class ChainWriter {
  private readonly table: NftTable;
  private readonly texts = new Map<string, string>();
  private readonly shapes: Map<number, string>;
  private readonly stamps: Map<string, string>;
  /** The chains that were written and have no stamp yet. */
  private readonly unstamped = new Map<string, Chain>();
  /** Those that stand, ours or not. */
  private readonly names: Set<string>;
  private declared: boolean;

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
    const ip = this.table.family.nft;
    const differing = chains.filter(
      (chain) => (chain.hook !== undefined) === hooked && this.texts.get(chain.name) !== textOf(chain),
    );
    const missing = hooked ? [] : [...shapes].filter(([number, name]) => this.shapes.get(number) !== name);
    if (differing.length === 0 && missing.length === 0 && this.declared) return;
    const renumbered = missing.filter(([number]) => this.shapes.has(number)).map(([number]) => number);
    const lines = [
      ...(this.declared ? [] : declarations(ip)),
      ...differing.flatMap((chain) => chainDocument(ip, chain, this.names.has(chain.name))),
      ...removalDocument(ip, { chains: [], shapes: renumbered }),
      ...shapesDocument(ip, new Map(missing)),
    ];
    await this.apply(lines, tally);
    this.declared = true;
    for (const [number, name] of missing) this.shapes.set(number, name);
    for (const chain of differing) {
      this.texts.set(chain.name, textOf(chain));
      this.names.add(chain.name);
      this.unstamped.set(chain.name, chain);
    }
  }

  /** Removes chains and shapes that are not wanted any more. */
  async prune({ chains, shapes }: WantedChains, tally: Tally): Promise<void> {
    const kept = new Set(chains.map(({ name }) => name));
    const gone = [...this.names].filter((name) => !kept.has(name));
    const numbers = [...this.shapes.keys()].filter((number) => !shapes.has(number));
    if (gone.length + numbers.length === 0) return;
    await this.apply(removalDocument(this.table.family.nft, { chains: gone, shapes: numbers }), tally);
    for (const number of numbers) this.shapes.delete(number);
    for (const name of gone) {
      this.names.delete(name);
      this.texts.delete(name);
    }
  }

  /** Writes down what was written, for a later run. */
  async stamp(tally: Tally): Promise<void> {
    if (this.unstamped.size === 0) return;
    const standing = await readChains(this.table);
    const fresh = new Map<string, string>();
    for (const chain of this.unstamped.values()) {
      const is = standing.get(chain.name);
      if (is !== undefined) fresh.set(chain.name, stampOf(chain, is));
    }
    const gone = [...this.stamps.keys()].filter((name) => fresh.has(name) || !this.names.has(name));
    const change = (deletes: boolean, elements: readonly SetElement[]): ElementChange[] =>
      elements.length === 0 ? [] : [{ set: stampSet, deletes, elements }];
    const changes = [
      ...change(
        true,
        gone.map((name) => stampElement(name, undefined)),
      ),
      ...change(
        false,
        [...fresh].map(([name, stamp]) => stampElement(name, stamp)),
      ),
    ];
    if (changes.length > 0) {
      tally.bytes += await this.table.write(changes);
      tally.transactions++;
    }
    for (const name of gone) this.stamps.delete(name);
    for (const [name, stamp] of fresh) this.stamps.set(name, stamp);
    this.unstamped.clear();
  }

  private async apply(lines: readonly string[], tally: Tally): Promise<void> {
    const document = `${lines.join('\n')}\n`;
    await this.table.apply(document);
    tally.bytes += document.length;
    tally.transactions++;
  }
}
