import { LeaseHolders } from '../../leases/plan/holders.ts';
import type { Lease } from '../../leases/plan/lease.ts';
import type { EntryMap, OverlayEntry } from './entries.ts';
import { type LeasePlan, type PeerContext, planLease, type SkippedLease } from './peer.ts';

const nothing: readonly OverlayEntry[] = [];

/** A lease's plan before and after; undefined where there was or is none. */
type PlanChange = readonly [old: LeasePlan | undefined, current: LeasePlan | undefined];

/** What changed of a result. */
export interface EntryUpdate {
  readonly before: EntryMap;
  readonly after: EntryMap;
}

/**
 * Works out what the kernel should hold for the peers. What it made of a lease it keeps as long as the lease lives: of
 * thousands of leases usually one has changed.
 */
export class PeerPlanner {
  readonly context: PeerContext;
  private readonly holders: LeaseHolders;
  /** Of the leases that the last result was worked out from, by name. */
  private plans = new Map<string, LeasePlan>();
  private entries: EntryMap = new Map();

  constructor(context: PeerContext) {
    this.context = context;
    this.holders = new LeaseHolders(context.ground.networks);
  }

  /** Leases of the last result that have no entries in a family, with the reason. */
  skipped(): SkippedLease[] {
    const result: SkippedLease[] = [];
    for (const plan of this.plans.values()) for (const one of plan.skipped) result.push(one);
    return result;
  }

  /** Everything the kernel should hold. It does not depend on the order in which leases became known. */
  desired(leases: ReadonlyMap<string, Lease>): EntryMap {
    const { context } = this;
    const refusals = this.holders.judge(leases.values());
    const plans = new Map<string, LeasePlan>();
    const entries: EntryMap = new Map();
    for (const lease of leases.values()) {
      const refused = refusals.get(lease.name);
      const known = this.plans.get(lease.name);
      const same = known?.lease === lease && known.refused === undefined && refused === undefined;
      const plan = same ? known : planLease(lease, context, refused);
      plans.set(lease.name, plan);
      for (const entry of plan.entries) entries.set(entry.key, entry);
    }
    this.plans = plans;
    this.entries = entries;
    return entries;
  }

  /**
   * Brings the last result of {@link desired} up to date, in place, at the cost of what changed.
   * @returns the entries of the changed leases before and after; undefined where leases claim what others hold: then only
   *   a whole new result is right
   */
  update(leases: ReadonlyMap<string, Lease>): EntryUpdate | undefined {
    const changed = this.changedPlans(leases);
    for (const [old] of changed) if (!this.holders.replace(old?.lease, undefined)) return undefined;
    for (const [, current] of changed) if (!this.holders.replace(undefined, current?.lease)) return undefined;
    const update: EntryUpdate = { before: new Map(), after: new Map() };
    for (const [old, current] of changed) {
      for (const entry of old?.entries ?? nothing) update.before.set(entry.key, entry);
      for (const entry of current?.entries ?? nothing) update.after.set(entry.key, entry);
    }
    this.commit(update, changed);
    return update;
  }

  private changedPlans(leases: ReadonlyMap<string, Lease>): PlanChange[] {
    const { context, plans } = this;
    const changed: PlanChange[] = [];
    let known = 0;
    for (const [name, lease] of leases) {
      const old = plans.get(name);
      if (old !== undefined) known++;
      if (old?.lease !== lease) changed.push([old, planLease(lease, context, undefined)]);
    }
    if (known < plans.size)
      for (const [name, old] of plans) if (!leases.has(name)) changed.push([old, undefined]);
    return changed;
  }

  private commit({ before, after }: EntryUpdate, changed: readonly PlanChange[]): void {
    for (const key of before.keys()) this.entries.delete(key);
    for (const [key, entry] of after) this.entries.set(key, entry);
    for (const [old, current] of changed) {
      if (current !== undefined) this.plans.set(current.lease.name, current);
      else if (old !== undefined) this.plans.delete(old.lease.name);
    }
  }
}
