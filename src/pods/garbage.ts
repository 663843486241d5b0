import { describeError, TwillError } from '../model/error.ts';
import type { Log } from '../process/log.ts';
import type { CniRequest } from './cni/call.ts';
import type { PodRecord } from './plan/pod.ts';

/** What GC works on: the attachments that stand, and what takes one away. */
export interface Garbage {
  readonly records: readonly PodRecord[];
  readonly forget: (record: PodRecord) => Promise<void>;
  /** Rules of other plugins for containers that are gone. */
  readonly removeDeadRules: () => Promise<void>;
  readonly log: Log;
}

/**
 * GC: removes the attachments of the network that the runtime no longer knows. An ADD that began after the list was
 * made is not in it, so only what stood when the call came is looked at.
 * @throws TwillError `invalid` when the list is missing: it would mean all of them
 */
export async function collectGarbage({ config }: CniRequest, garbage: Garbage): Promise<void> {
  if (config.validAttachments === undefined)
    throw new TwillError('invalid', 'network configuration: GC needs cni.dev/valid-attachments');
  const valid = new Set(config.validAttachments.map(({ containerID, ifname }) => `${containerID}/${ifname}`));
  const stale = garbage.records.filter(
    ({ network, containerId, ifname }) => network === config.name && !valid.has(`${containerId}/${ifname}`),
  );
  for (const { containerId, ifname, addresses } of stale) {
    const held = addresses.map(({ address }) => address);
    garbage.log.warn({ containerId, ifname, addresses: held }, 'attachment is not in use any more');
  }
  // One that cannot be removed does not keep the others.
  const outcomes = await Promise.allSettled(stale.map((record) => garbage.forget(record)));
  const reasons = outcomes.flatMap((outcome) =>
    outcome.status === 'rejected' ? [describeError(outcome.reason)] : [],
  );
  await garbage.removeDeadRules().catch((error: unknown) => reasons.push(describeError(error)));
  if (reasons.length > 0) throw new TwillError('kernel', `not removed yet: ${reasons.join('; ')}`);
}
