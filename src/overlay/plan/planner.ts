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
  readonly skipped: SkippedLease[];
}

/**
 * Works out what the kernel should hold for the peers. What it made of a lease it keeps as long as the lease lives: of
 * thousands of leases usually one has changed.
 */
export class PeerPlanner {
  readonly context: PeerContext;
  /** Of the leases that the last result was worked out from, by name. */
  private plans = new Map<string, LeasePlan>();
  private entries: EntryMap = new Map();
  /** How many forwarding entries each MAC has. */
  private readonly macs = new Map<string, number>();
  private clashing = false;

  constructor(context: PeerContext) {
    this.context = context;
  }

  /**
   * Everything the kernel should hold. Where two leases want the same entry, the first by name has it, so that the
   * result does not depend on the order in which leases became known.
   */
  desired(leases: Iterable<Lease>): { entries: EntryMap; skipped: SkippedLease[] } {
    const { context } = this;
    const plans = new Map<string, LeasePlan>();
    const entries: EntryMap = new Map();
    const clashes = new Set<string>();
    const skipped: SkippedLease[] = [];
    this.macs.clear();
    for (const lease of leases) {
      if (lease.name === context.own.name) continue;
      const known = this.plans.get(lease.name);
      const plan = known?.lease === lease ? known : planLease(lease, context);
      plans.set(lease.name, plan);
      for (const entry of plan.entries) {
        const before = entries.size;
        entries.set(entry.key, entry);
        if (entries.size === before) clashes.add(entry.key);
        else this.count(entry, 1);
      }
      for (const one of plan.skipped) skipped.push(one);
    }
    this.plans = plans;
    if (clashes.size > 0) settle(plans.values(), clashes, entries);
    this.clashing = clashes.size > 0;
    this.entries = entries;
    return { entries, skipped };
  }

  private count(entry: OverlayEntry, by: number): void {
    if (entry.kind === 'fdb') this.macs.set(entry.mac, (this.macs.get(entry.mac) ?? 0) + by);
  }

  /**
   * Brings the last result of {@link desired} up to date, in place, at the cost of what changed.
   * @returns the entries of the changed leases before and after; undefined where leases clash, or share a MAC: then only
   *   a whole new result is right
   */
  update(leases: ReadonlyMap<string, Lease>): EntryUpdate | undefined {
    if (this.clashing) return undefined;
    const changed = this.changedPlans(leases);
    const update: EntryUpdate = { before: new Map(), after: new Map(), skipped: [] };
    for (const [old, current] of changed) {
      for (const entry of old?.entries ?? nothing) update.before.set(entry.key, entry);
      if (current === undefined) continue;
      update.skipped.push(...current.skipped);
      for (const entry of current.entries) {
        if (update.after.has(entry.key)) return undefined;
        update.after.set(entry.key, entry);
      }
    }
    for (const key of update.after.keys())
      if (this.entries.has(key) && !update.before.has(key)) return undefined;
    if (this.sharesMac(update)) return undefined;
    this.commit(update, changed);
    return update;
  }

  private changedPlans(leases: ReadonlyMap<string, Lease>): PlanChange[] {
    const { context, plans } = this;
    const changed: PlanChange[] = [];
    let known = 0;
    for (const [name, lease] of leases) {
      if (name === context.own.name) continue;
      const old = plans.get(name);
      if (old !== undefined) known++;
      if (old?.lease !== lease) changed.push([old, planLease(lease, context)]);
    }
    if (known < plans.size)
      for (const [name, old] of plans) if (!leases.has(name)) changed.push([old, undefined]);
    return changed;
  }

  private sharesMac({ before, after }: EntryUpdate): boolean {
    const counts = new Map<string, number>();
    const add = (entry: OverlayEntry, by: number): void => {
      if (entry.kind === 'fdb')
        counts.set(entry.mac, (counts.get(entry.mac) ?? this.macs.get(entry.mac) ?? 0) + by);
    };
    for (const entry of before.values()) {
      if (entry.kind === 'fdb' && (this.macs.get(entry.mac) ?? 0) > 1) return true;
      add(entry, -1);
    }
    for (const entry of after.values()) add(entry, 1);
    for (const count of counts.values()) if (count > 1) return true;
    return false;
  }

  private commit({ before, after }: EntryUpdate, changed: readonly PlanChange[]): void {
    for (const [key, entry] of before) {
      this.entries.delete(key);
      this.count(entry, -1);
    }
    for (const [key, entry] of after) {
      this.entries.set(key, entry);
      this.count(entry, 1);
    }
    for (const [old, current] of changed) {
      if (current !== undefined) this.plans.set(current.lease.name, current);
      else if (old !== undefined) this.plans.delete(old.lease.name);
    }
  }
}

/** Gives each entry that several leases want to the first of them by name. */
function settle(plans: Iterable<LeasePlan>, clashes: ReadonlySet<string>, entries: EntryMap): void {
  const owners = new Map<string, Lease>();
  for (const { lease, entries: own } of plans) {
    for (const entry of own) {
      const owner = owners.get(entry.key);
      if (!clashes.has(entry.key) || (owner !== undefined && owner.name < lease.name)) continue;
      owners.set(entry.key, lease);
      entries.set(entry.key, entry);
    }
  }
}
