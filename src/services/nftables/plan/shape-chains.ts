import { TwillError } from '../../../model/error.ts';
import { type Chain, pickChain, shapeChain, sharedChains } from './chains.ts';
import { mostShapes } from './names.ts';
import type { RenderOptions } from './options.ts';
import { type Pick, pickName, picksOf, type Shape, shapeName } from './shapes.ts';

const CROWD = mostShapes >> 2;

/** The shapes that Services have, each with its number, and the chains that should be. */
export class ShapeChains {
  private options: RenderOptions;
  private readonly shapes = new Map<string, { readonly shape: Shape; readonly number: number }>();
  private readonly names = new Map<number, string>();
  private standing: ReadonlyMap<number, string> = new Map();
  /** What {@link chains} has said, until something of it changes. */
  private known: Chain[] | undefined;
  /** Those of them that depend on numbers of endpoints, of which there may be thousands. */
  private readonly numbered = new Map<string, Chain>();
  /** Shapes that there were when those nobody uses were last forgotten. */
  private kept = 0;

  constructor(options: RenderOptions) {
    this.options = options;
  }

  configure(options: RenderOptions): void {
    this.options = options;
    this.known = undefined;
    this.numbered.clear();
  }

  /** @param standing the numbers that an earlier run has given: chain names by number */
  adopt(standing: ReadonlyMap<number, string>): void {
    this.standing = standing;
  }

  /** Chain names by number. */
  get byNumber(): ReadonlyMap<number, string> {
    return this.names;
  }

  /** The chains that should be, those with a hook last; the same list as before where nothing of it has changed. */
  chains(): readonly Chain[] {
    this.known ??= this.make();
    return this.known;
  }

  /** @throws TwillError `exhausted` */
  numberOf(shape: Shape): number {
    const name = shapeName(shape);
    const known = this.shapes.get(name);
    if (known !== undefined) return known.number;
    const number = this.freeNumber(name);
    this.shapes.set(name, { shape, number });
    this.names.set(number, name);
    this.known = undefined;
    return number;
  }

  /** Forgets the shapes that have none of these numbers. */
  prune(used: ReadonlySet<number>): void {
    for (const [name, { number }] of this.shapes) {
      if (used.has(number)) continue;
      this.shapes.delete(name);
      this.names.delete(number);
      this.known = undefined;
    }
    this.kept = this.shapes.size;
    if (this.known === undefined) this.numbered.clear();
  }

  /** Whether so many shapes have come that it is time to forget those nobody uses: numbers for them are few. */
  get isCrowded(): boolean {
    return this.shapes.size - this.kept >= CROWD;
  }

  private make(): Chain[] {
    const picks = new Map<string, Pick>();
    const shapes = [...this.shapes].map(([name, { shape }]) => {
      for (const pick of picksOf(shape)) picks.set(pickName(pick), pick);
      return this.made(name, () => shapeChain(shape, pickName, this.options));
    });
    const choosing = [...picks].map(([name, pick]) =>
      this.made(name, () => pickChain(name, pick, this.options)),
    );
    return [...choosing, ...shapes, ...sharedChains(this.options)];
  }

  private made(name: string, make: () => Chain): Chain {
    const chain = this.numbered.get(name) ?? make();
    this.numbered.set(name, chain);
    return chain;
  }

  private freeNumber(name: string): number {
    const before = [...this.standing].find(([, chain]) => chain === name)?.[0];
    if (before !== undefined && !this.names.has(before)) return before;
    for (let number = 1; number <= mostShapes; number++)
      if (!this.names.has(number) && !this.standing.has(number)) return number;
    throw new TwillError('exhausted', `Services have more than ${mostShapes} different numbers of endpoints`);
  }
}
