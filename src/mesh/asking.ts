import { randomFillSync } from 'node:crypto';
import type { Lease } from '../leases/plan/lease.ts';
import type { Family } from '../model/address.ts';
import { ask } from './asker.ts';
import { makeQuestion, PAIR_BYTES, TOKEN_BYTES } from './plan/packet.ts';
import { type MeshPath, type MeshPlace, type MeshView, placesOf } from './plan/places.ts';
import type { Asked, Reply } from './plan/record.ts';

const bytes = (length: number): Uint8Array => randomFillSync(new Uint8Array(length));

/** The reply, or why there is none: this process did not listen in time, or has no address to ask from. */
type Outcome = Reply | 'missed' | 'nowhere';

const replyOf = (outcome: Outcome): Reply | undefined => (typeof outcome === 'string' ? undefined : outcome);

/**
 * Asks a node once in one family, by underlay and overlay at the same time. Where the underlay alone gets through it is
 * asked whether the overlay's question has come: that tells the way there from the way back.
 * @param own where this node answers now
 * @returns undefined where nothing can be said
 */
export async function askInFamily(
  lease: Lease,
  family: Family,
  { backend }: Pick<MeshView, 'backend'>,
  own: readonly MeshPlace[],
  { port, timeoutMs }: { readonly port: number; readonly timeoutMs: number },
): Promise<Asked | undefined> {
  const places = placesOf(lease, family, backend);
  if (places === undefined) return undefined;
  const pair = bytes(PAIR_BYTES);
  const put = async (path: MeshPath): Promise<Outcome> => {
    const from = own.find((place) => place.path === path && place.family === family)?.address;
    if (from === undefined) return 'nowhere';
    const packet = makeQuestion(pair, bytes(TOKEN_BYTES));
    return (await ask({ family, from, to: places[path], port, packet, timeoutMs })) ?? 'missed';
  };
  const outcomes = await Promise.all([put('underlay'), put('overlay')]);
  const [underlay, overlay] = outcomes.map(replyOf);
  if (outcomes.includes('missed') || (underlay === undefined && overlay === undefined)) return undefined;
  const torn = overlay?.kind === 'lost' && underlay?.kind === 'answered';
  const again = torn ? replyOf(await put('underlay')) : undefined;
  return { underlay, overlay, heard: again?.kind === 'answered' ? again.facts.heard : undefined };
}
