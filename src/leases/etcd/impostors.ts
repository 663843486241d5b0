import { isTwillError } from '../../model/error.ts';
import type { Log } from '../../process/log.ts';
import { haveOneMac, overlaps } from '../plan/claim.ts';
import type { Lease } from '../plan/lease.ts';
import type { LeaseRecord } from './records.ts';
import type { EtcdLeases } from './store.ts';
import type { EtcdTracker } from './tracker.ts';

/**
 * Takes away what was made across our subnets, or said to have our VTEP MAC, after our lease: to nodes that start when
 * we have written ours anew it would be the first.
 * @returns false when some stay, because etcd does not let us
 * @param origin our lease's key as it was when we said first what the lease says
 */
export async function removeImpostors(
  { store, tracker, log }: { readonly store: EtcdLeases; readonly tracker: EtcdTracker; readonly log: Log },
  origin: Pick<LeaseRecord, 'created' | 'revision'>,
  lease: Lease,
): Promise<boolean> {
  let all = true;
  for (const other of tracker.leases.values()) {
    const made = tracker.records.get(other.name);
    if (other.name === lease.name || made === undefined) continue;
    const across = made.created > origin.created && overlaps(other, lease);
    const copy = made.revision > origin.revision && haveOneMac(other, lease);
    if (!across && !copy) continue;
    try {
      await store.remove(made);
      tracker.forget(other.name);
      log.error({ lease: other.name, value: made.value }, 'removed a lease that claims what is ours');
    } catch (error) {
      if (!isTwillError(error, 'permission')) throw error; // as it should be: each its own
      all = false;
    }
  }
  return all;
}
