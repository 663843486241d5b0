import type { RtSocket } from '../kernel/netlink/socket.ts';
import { type Lease, subnetsOf } from '../leases/plan/lease.ts';
import type { Backend } from '../leases/plan/network-config.ts';
import type { Address } from '../model/address.ts';
import type { Contest } from '../model/contest.ts';
import { describeError, TwillError } from '../model/error.ts';
import { monotonicMs } from '../process/clock.ts';
import type { Log, LogLimiter } from '../process/log.ts';
import { applyOverlay, listOverlay } from './kernel.ts';
import type { Adoption, Ownership } from './plan/actual.ts';
import { diffEntries, type OverlayChange } from './plan/diff.ts';
import { type EntryMap, endpointsOf, type OverlayEntry, sameEntry } from './plan/entries.ts';
import type { Ground } from './plan/ground.ts';
import type { FamilyPath, PeerContext, SkippedLease } from './plan/peer.ts';
import { PeerPlanner } from './plan/planner.ts';

/** Everything the peers' entries follow from. */
export interface PeersInput {
  readonly leases: ReadonlyMap<string, Lease>;
  readonly own: Lease;
  readonly paths: readonly FamilyPath[];
  readonly backend: Backend;
  readonly ground: Ground;
  /** A subnet file was there at the start: a flanneld may have run here before. */
  readonly adopting: boolean;
}

/** More refusals than that have a reason that is not the leases'. */
const MOST_REFUSED = 20;

function sample(changes: readonly OverlayChange[]): string[] {
  return changes.slice(0, 5).map(({ action, entry }) => `${action} ${entry.key}`);
}

/**
 * Keeps routes, neighbour and forwarding entries of the peers. A full pass compares with what the kernel lists; a quick
 * one with what we know to have applied, and so costs only what changed.
 */
export class OverlayPeers {
  private readonly socket: RtSocket;
  private readonly log: Log;
  private readonly limiter: LogLimiter;
  private readonly contest: Contest;
  /** What the kernel holds as far as we know. */
  private applied: EntryMap = new Map();
  private ownership: Ownership = { devices: new Set(), networks: [] };
  private planner: PeerPlanner | undefined;
  private contextPrint = '';
  private listed = false;
  /** `applied` is the planner's own result, and the kernel has taken all of it. */
  private complete = false;
  private passedOver: readonly SkippedLease[] = [];
  /** What the kernel refused of single leases at the last attempt. */
  private refused: readonly SkippedLease[] = [];
  /** What the entries were last worked out from. */
  input: PeersInput | undefined;
  /** Called when other entries should stand, before the kernel has them. */
  onChange: (() => void) | undefined;
  /** Entries set or removed because the kernel differed although nobody's lease had changed. */
  repairs = 0;

  constructor(socket: RtSocket, log: Log, limiter: LogLimiter, contest: Contest) {
    this.socket = socket;
    this.log = log;
    this.limiter = limiter;
    this.contest = contest;
  }

  /** The entry that should stand under this key. */
  expected(key: string): OverlayEntry | undefined {
    return this.applied.get(key);
  }

  /** Which kernel objects are ours. */
  owned(): Ownership {
    return this.ownership;
  }

  /** Leases that have no entries, or not all of them, with the reason. */
  get skipped(): readonly SkippedLease[] {
    return this.refused.length === 0 ? this.passedOver : [...this.passedOver, ...this.refused];
  }

  /** What should stand, by key. */
  get entries(): EntryMap {
    return this.applied;
  }

  /** Number of entries that should stand. */
  get size(): number {
    return this.applied.size;
  }

  /** Addresses of the nodes that have entries. */
  endpoints(): Address[] {
    return endpointsOf(this.applied);
  }

  /** @throws TwillError of the first refusal; everything else was applied all the same */
  async sync(input: PeersInput, full: boolean): Promise<void> {
    this.input = input;
    const { leases, own, paths, backend, ground } = input;
    const planner = this.plannerFor({ own, paths, backend, ground });
    const devices = paths.flatMap(({ vxlan }) => vxlan ?? []);
    this.ownership = { devices: new Set(devices), networks: ground.networks, adoption: this.adoption(input) };
    const known = !full && this.listed && this.complete;
    const update = known ? planner.update(leases) : undefined;
    if (update !== undefined) {
      this.tellSkipped(planner.skipped());
      await this.apply(diffEntries(update.after, update.before), this.applied);
      return;
    }
    const entries = planner.desired(leases);
    this.tellSkipped(planner.skipped());
    if (known) {
      await this.apply(diffEntries(entries, this.applied), entries);
      return;
    }
    const actual = await listOverlay(this.socket, paths, this.ownership, entries);
    const changes = diffEntries(entries, actual);
    if (this.listed) this.report(changes, entries);
    else this.reportLeftovers(changes);
    await this.apply(changes, entries);
    this.listed = true;
  }

  /** Only what stands before our first change can be a flanneld's; with `alloc`, somebody else's routes are wanted. */
  private adoption({ adopting, own, backend, paths: [path] }: PeersInput): Adoption | undefined {
    if (this.listed || !adopting || backend.type === 'alloc' || path === undefined) return undefined;
    return { underlay: path.underlay, subnets: subnetsOf(own) };
  }

  private reportLeftovers(changes: readonly OverlayChange[]): void {
    const removed = changes.filter(({ action }) => action === 'remove');
    if (removed.length > 0)
      this.log.info(
        { count: removed.length, changes: sample(removed) },
        'removing what an earlier run left for nodes that are gone',
      );
  }

  private tellSkipped(skipped: readonly SkippedLease[]): void {
    this.passedOver = skipped;
    this.tell(skipped);
  }

  private tell(skipped: readonly SkippedLease[]): void {
    for (const { name, reason } of skipped) {
      if (this.limiter.allow(`skipped ${name} ${reason}`) !== undefined)
        this.log.warn({ lease: name, reason }, 'no route to a node');
    }
  }

  /** A new one when what all entries depend on has changed. */
  private plannerFor(context: PeerContext): PeerPlanner {
    const print = JSON.stringify(context, (_, value) =>
      typeof value === 'bigint' ? String(value) : value instanceof Set ? [...value] : value,
    );
    if (this.planner === undefined || this.contextPrint !== print) {
      this.planner = new PeerPlanner(context);
      this.contextPrint = print;
      this.complete = false;
    }
    return this.planner;
  }

  private report(changes: readonly OverlayChange[], entries: EntryMap): void {
    // A change that is not due to a lease: what should stand was already applied, or what is removed never was.
    const repairs = changes.filter(({ action, entry: { key } }) => {
      const applied = this.applied.get(key);
      if (action === 'remove') return applied === undefined;
      const wanted = entries.get(key);
      return applied !== undefined && wanted !== undefined && sameEntry(applied, wanted);
    });
    if (repairs.length === 0) return;
    this.repairs += repairs.length;
    this.log.warn(
      { count: repairs.length, changes: sample(repairs) },
      'repaired entries that somebody else had changed',
    );
    const now = monotonicMs();
    const contested = repairs.filter(({ entry }) => this.contest.note(entry.key, now).begins);
    if (contested.length > 0)
      this.log.error(
        { count: contested.length, changes: sample(contested) },
        'something keeps changing entries (another program, a link that flaps): they are put right less often from now on',
      );
  }

  private async apply(changes: readonly OverlayChange[], entries: EntryMap): Promise<void> {
    // Before the kernel tells of our own changes, what we expect must be known.
    this.applied = entries;
    this.complete = false;
    if (changes.length === 0) {
      this.complete = true;
      return;
    }
    this.onChange?.();
    const failures = await applyOverlay(this.socket, changes);
    if (this.listed) this.log.debug({ count: changes.length, changes: sample(changes) }, 'applied changes');
    for (const { entry } of failures.keys()) this.applied.delete(entry.key);
    this.complete = failures.size === 0;
    this.tellRefused(failures);
    for (const [{ action, entry }, error] of failures)
      if (error.code !== 'kernel' || failures.size > MOST_REFUSED)
        throw new TwillError(
          error.code,
          `${failures.size} of ${changes.length} changes were refused, the first: ${action} ${entry.key}`,
          error,
        );
  }

  /** What is wrong with a few leases holds up nothing: they are named, and the next full pass tries again. */
  private tellRefused(failures: ReadonlyMap<OverlayChange, TwillError>): void {
    this.refused = [...failures]
      .filter(([, { code }]) => code === 'kernel')
      .slice(0, MOST_REFUSED)
      .map(([{ entry }, error]) => ({
        name: entry.key,
        reason: `the kernel refuses it: ${describeError(error)}`,
      }));
    this.tell(this.refused);
  }
}
