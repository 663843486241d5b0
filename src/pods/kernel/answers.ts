import { setTimeout as sleep } from 'node:timers/promises';
import { askNeighbour, deleteNeighbour, neighboursOf } from '../../kernel/netlink/neighbours.ts';
import type { RtSocket } from '../../kernel/netlink/socket.ts';
import { type Address, families } from '../../model/address.ts';
import { monotonicMs } from '../../process/clock.ts';

/** Whoever is on the bridge answers within the call that asks; only a busy machine takes longer. */
const PATIENCE_MS = 100;
const INTERVAL_MS = 5;

/** Asks for addresses on a bridge, by ARP and NDP. @returns those that somebody answers for */
export async function askWhoAnswers(
  socket: RtSocket,
  bridge: number,
  addresses: readonly Address[],
): Promise<Address[]> {
  // What is known from before may be of a pod that is gone.
  await socket.batch(addresses.map((address) => deleteNeighbour(bridge, address)));
  await socket.batch(addresses.map((address) => askNeighbour(bridge, address)));
  const deadline = monotonicMs() + PATIENCE_MS;
  const used = families.filter((family) => addresses.some((address) => address.family === family));
  for (;;) {
    const entries = (
      await Promise.all(used.map((family) => socket.list(neighboursOf(family, bridge))))
    ).flat();
    const answered = new Set(
      entries.filter(({ mac }) => mac !== undefined).map(({ address }) => address.text),
    );
    const found = addresses.filter(({ text }) => answered.has(text));
    if (found.length > 0 || monotonicMs() > deadline) {
      await socket.batch(
        addresses.filter((one) => !found.includes(one)).map((one) => deleteNeighbour(bridge, one)),
      );
      return found;
    }
    await sleep(INTERVAL_MS);
  }
}
