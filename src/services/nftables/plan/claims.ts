import type { Emit } from './endpoints.ts';
import { entrances, type SetName } from './names.ts';
import { packNumber } from './pack.ts';
import type { Claim } from './service-rules.ts';

/** A claim and whose it is. */
export interface Claimant {
  /** The Service port's {@link PortRules.id}: of two equal claims the first by name counts. */
  readonly id: string;
  readonly name: string;
  readonly claim: Claim;
  /** What the address leads to: number and shape; undefined where it is not served. */
  readonly target: number | undefined;
}

const sets = {
  address: { leads: 'services', reject: 'no-endpoints', drop: 'no-local-endpoints' },
  node: { leads: 'node-ports', reject: 'node-no-endpoints', drop: 'node-no-local-endpoints' },
} as const satisfies Record<Claim['space'], Record<string, SetName>>;

function elements({ claim, target }: Claimant, emit: Emit): void {
  const { key } = claim;
  const names = sets[claim.space];
  if (target !== undefined) emit(names.leads, key, packNumber(target));
  if (claim.refusal !== undefined) emit(names[claim.refusal], key, '');
  if (claim.sources === undefined) return;
  emit('firewalled', key, '');
  for (const range of claim.sources) emit('sources', key + range, '');
}

function comesBefore(one: Claimant, other: Claimant): boolean {
  if (one.claim.rank !== other.claim.rank) return one.claim.rank < other.claim.rank;
  return one.id < other.id;
}

/** Who has which address, where several Services claim one. */
export class Claims {
  private readonly put: Emit;
  private readonly drop: Emit;
  private readonly claimants = new Map<string, Claimant[]>();

  /** @param put told the elements that should be @param drop and those that should not be any more */
  constructor(put: Emit, drop: Emit) {
    this.put = put;
    this.drop = drop;
  }

  /** Whose an address or node port is, by the set that leads on from it. */
  holder(set: SetName, key: string): string | undefined {
    if (!entrances.has(set)) return undefined;
    return this.claimants.get(`${set === 'services' ? 'address' : 'node'} ${key}`)?.[0]?.name;
  }

  /** The Service port's {@link PortRules.id} that has it. */
  claimant(space: Claim['space'], key: string): string | undefined {
    return this.claimants.get(`${space} ${key}`)?.[0]?.id;
  }

  add(claimant: Claimant): void {
    const place = `${claimant.claim.space} ${claimant.claim.key}`;
    const known = this.claimants.get(place);
    if (known === undefined) {
      this.claimants.set(place, [claimant]);
      elements(claimant, this.put);
      return;
    }
    const first = known[0]!;
    const at = known.findIndex((other) => comesBefore(claimant, other));
    known.splice(at < 0 ? known.length : at, 0, claimant);
    if (at === 0) this.hand(first, claimant);
  }

  remove({ id, claim }: Pick<Claimant, 'id' | 'claim'>): void {
    const place = `${claim.space} ${claim.key}`;
    const known = this.claimants.get(place);
    const at = known?.findIndex((other) => other.id === id && other.claim === claim) ?? -1;
    if (known === undefined || at < 0) return;
    const [gone] = known.splice(at, 1);
    if (known.length === 0) this.claimants.delete(place);
    if (at === 0) this.hand(gone!, known[0]);
  }

  private hand(from: Claimant, to: Claimant | undefined): void {
    elements(from, this.drop);
    if (to !== undefined) elements(to, this.put);
  }
}
