import type { Check } from './health.ts';

/** What was put right under one name lately. */
interface Repairs {
  count: number;
  /** Milliseconds by the monotonic clock. */
  last: number;
}

/** So many repairs of one object follow at once; further ones wait. */
const FREE_REPAIRS = 3;
const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 60_000;
/** An object that was left alone for this long is not contested any more. */
const QUIET_MS = 5 * 60_000;
/** More objects than this are not told apart: somebody changes everything. */
const MOST_OBJECTS = 1000;

/**
 * Remembers what had to be put right, so that two programs that each want an object their own way do not keep both of them
 * busy: after a few repairs the next ones wait longer and longer.
 */
export class Contest {
  private readonly objects = new Map<string, Repairs>();

  /**
   * Says that the object was just put right.
   * @param now milliseconds by the monotonic clock
   * @returns how often lately; `begins` is true when it has become one repair too many
   */
  note(object: string, now: number): { readonly count: number; readonly begins: boolean } {
    if (this.objects.size > MOST_OBJECTS) this.forget(now);
    const known = this.objects.get(object);
    const count = known !== undefined && now - known.last < QUIET_MS ? known.count + 1 : 1;
    this.objects.set(object, { count, last: now });
    return { count, begins: count === FREE_REPAIRS + 1 };
  }

  /** Milliseconds to wait before the object is put right again. */
  wait(object: string, now: number): number {
    const known = this.objects.get(object);
    if (known === undefined || known.count <= FREE_REPAIRS || now - known.last >= QUIET_MS) return 0;
    const wait = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** (known.count - FREE_REPAIRS - 1));
    return Math.max(0, wait - (now - known.last));
  }

  /** The objects that somebody else keeps changing. */
  contested(now: number): string[] {
    return [...this.objects]
      .filter(([, repairs]) => repairs.count > FREE_REPAIRS && now - repairs.last < QUIET_MS)
      .map(([object]) => object);
  }

  private forget(now: number): void {
    for (const [object, repairs] of this.objects)
      if (now - repairs.last >= QUIET_MS || this.objects.size > MOST_OBJECTS) this.objects.delete(object);
  }
}

/** The objects that somebody else keeps changing, for a status page. */
export function contestedChecks(contest: Contest, now: number): Check[] {
  const objects = contest.contested(now);
  if (objects.length === 0) return [];
  const some = `${objects.slice(0, 5).join(', ')}${objects.length > 5 ? ', …' : ''}`;
  const detail = `something keeps changing ${objects.length} objects of ours: ${some}`;
  return [{ name: 'contested', state: 'warning', detail }];
}
