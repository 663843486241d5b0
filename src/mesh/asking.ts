import { randomFillSync } from 'node:crypto';
import type { Lease } from '../leases/plan/lease.ts';
import type { Family } from '../model/address.ts';
import { ask } from './asker.ts';
import { makeQuestion, PAIR_BYTES, questionBytes, TOKEN_BYTES } from './plan/packet.ts';
import { type MeshPath, type MeshPlace, type MeshView, placesOf } from './plan/places.ts';
import type { Asked, Reply } from './plan/record.ts';

const bytes = (length: number): Uint8Array => randomFillSync(new Uint8Array(length));

/** The reply, or why there is none: this process did not listen in time, or has no address to ask from. */
type Outcome = Reply | 'missed' | 'nowhere';

const replyOf = (outcome: Outcome): Reply | undefined => (typeof outcome === 'string' ? undefined : outcome);

/**
 * Asks a node once in one family, by underlay and overlay at the same time; then, where the overlay gets through, by a
 * packet as large as pods of both nodes send. Where one by the overlay is lost and the underlay gets through it is asked
 * whether the question has come: that tells the way there from the way back.
 * @param own where this node answers now
 * @returns undefined where nothing can be said
 */
export async function askInFamily(
  lease: Lease,
  family: Family,
  { backend, largest }: Pick<MeshView, 'backend' | 'largest'>,
  own: readonly MeshPlace[],
  { port, timeoutMs }: { readonly port: number; readonly timeoutMs: number },
): Promise<Asked | undefined> {
  const places = placesOf(lease, family, backend);
  if (places === undefined) return undefined;
  const put = async (path: MeshPath, pair: Uint8Array, length?: number): Promise<Outcome> => {
    const from = own.find((place) => place.path === path && place.family === family)?.address;
    if (from === undefined) return 'nowhere';
    const packet = makeQuestion(pair, bytes(TOKEN_BYTES), length);
    return (await ask({ family, from, to: places[path], port, packet, timeoutMs })) ?? 'missed';
  };
  const pair = bytes(PAIR_BYTES);
  const outcomes = await Promise.all([put('underlay', pair), put('overlay', pair)]);
  const [underlay, overlay] = outcomes.map(replyOf);
  if (outcomes.includes('missed') || (underlay === undefined && overlay === undefined)) return undefined;
  const isHeard = async (lost: Uint8Array): Promise<boolean | undefined> => {
    const again = underlay?.kind === 'answered' ? replyOf(await put('underlay', lost)) : undefined;
    return again?.kind === 'answered' ? again.facts.heard : undefined;
  };
  if (overlay?.kind === 'lost') return { underlay, overlay, heard: await isHeard(pair) };
  // Nodes whose devices take different sizes: TCP goes by the smaller one.
  const packetBytes = overlay?.kind === 'answered' ? Math.min(largest, overlay.facts.largest) : 0;
  const length = questionBytes(family, packetBytes);
  if (length === undefined) return { underlay, overlay, heard: undefined };
  const another = bytes(PAIR_BYTES);
  const outcome = await put('overlay', another, length);
  if (outcome === 'missed') return undefined;
  const reply = replyOf(outcome);
  const large = reply && { bytes: packetBytes, reply };
  return { underlay, overlay, large, heard: reply?.kind === 'lost' ? await isHeard(another) : undefined };
}
