import { setTimeout as sleep } from 'node:timers/promises';
import { listAddresses } from '../../kernel/netlink/addresses.ts';
import { IFA_F_DADFAILED, IFA_F_TENTATIVE } from '../../kernel/netlink/constants.ts';
import { RtSocket } from '../../kernel/netlink/socket.ts';
import { inNetns, type Netns } from '../../kernel/netns.ts';
import { ipv6 } from '../../model/address.ts';
import { TwillError } from '../../model/error.ts';
import { monotonicMs } from '../../process/clock.ts';
import type { PodPlan } from '../plan/wiring.ts';

const INTERVAL_MS = 20;
/** What the bridge plugin waits; one probe takes a second. */
const LIMIT_MS = 10_000;

/**
 * Waits until the kernel has looked for duplicates of a pod's IPv6 addresses.
 * @throws TwillError `conflict` when somebody else has one, `timeout`
 */
export async function settleAddresses(netns: Netns, plan: PodPlan): Promise<void> {
  const own = new Set(
    plan.addresses.filter(({ address }) => address.family === ipv6).map(({ address }) => address.text),
  );
  if (own.size === 0) return;
  const pod = inNetns(netns, () => new RtSocket());
  const deadline = monotonicMs() + LIMIT_MS;
  try {
    for (;;) {
      const found = (await listAddresses(pod, ipv6)).filter(({ address }) => own.has(address.text));
      const failed = found.find(({ flags }) => (flags & IFA_F_DADFAILED) !== 0);
      if (failed !== undefined)
        throw new TwillError('conflict', `somebody else on the bridge has ${failed.address.text}`);
      if (found.every(({ flags }) => (flags & IFA_F_TENTATIVE) === 0)) return;
      if (monotonicMs() > deadline)
        throw new TwillError('timeout', `looking for duplicates of ${[...own].join(', ')} takes too long`);
      await sleep(INTERVAL_MS);
    }
  } finally {
    pod.close();
  }
}
