/**
 * What nodes ask and answer each other to learn whether they are reached. An answer is as long as its question, so that
 * nobody can have more sent to somebody than he sends himself.
 *
 * | bytes | what                                                                                     |
 * | ----- | ---------------------------------------------------------------------------------------- |
 * | 4     | `TWLM`                                                                                   |
 * | 1     | version, 1                                                                               |
 * | 1     | 1 question, 2 answer                                                                     |
 * | 1     | of an answer: bit 0: the overlay is answered, too; bit 1: the pair was heard by the overlay |
 * | 1     | 0                                                                                        |
 * | 8     | pair: the same in the questions that go to one node at once, by underlay and overlay     |
 * | 16    | token: by chance, another one in each question                                           |
 */
export const PACKET_BYTES = 32;
export const PAIR_BYTES = 8;
export const TOKEN_BYTES = 16;

const magic = [0x54, 0x57, 0x4c, 0x4d] as const;
const VERSION = 1;
const [KIND_AT, FLAGS_AT, PAIR_AT, TOKEN_AT] = [5, 6, 8, 16];
const QUESTION = 1;
const ANSWER = 2;
const SERVES_OVERLAY = 1;
const HEARD = 2;

/** What an answer says besides that it is one. */
export interface AnswerFacts {
  /** The node answers at its overlay address, too. */
  readonly servesOverlay: boolean;
  /** The question of the same pair that went by the overlay has come. */
  readonly heard: boolean;
}

/** @param pair 8 bytes @param token 16 bytes */
export function makeQuestion(pair: Uint8Array, token: Uint8Array): Uint8Array {
  const packet = new Uint8Array(PACKET_BYTES);
  packet.set([...magic, VERSION, QUESTION]);
  packet.set(pair, PAIR_AT);
  packet.set(token, TOKEN_AT);
  return packet;
}

function isOfKind(packet: Uint8Array, kind: number): boolean {
  return (
    packet.length === PACKET_BYTES &&
    magic.every((byte, index) => packet[index] === byte) &&
    packet[magic.length] === VERSION &&
    packet[KIND_AT] === kind
  );
}

export const isQuestion = (packet: Uint8Array): boolean => isOfKind(packet, QUESTION);

/** The pair of a question, as a key. */
export function pairOf(packet: Uint8Array): string {
  let key = '';
  for (let at = PAIR_AT; at < PAIR_AT + PAIR_BYTES; at++) key += packet[at]!.toString(16).padStart(2, '0');
  return key;
}

/** @param question one that {@link isQuestion} has let through */
export function makeAnswer(question: Uint8Array, { servesOverlay, heard }: AnswerFacts): Uint8Array {
  const packet = Uint8Array.from(question);
  packet[KIND_AT] = ANSWER;
  packet[FLAGS_AT] = (servesOverlay ? SERVES_OVERLAY : 0) | (heard ? HEARD : 0);
  return packet;
}

/** @returns undefined for what is no answer to this question */
export function readAnswer(question: Uint8Array, packet: Uint8Array): AnswerFacts | undefined {
  if (!isOfKind(packet, ANSWER)) return undefined;
  for (let at = PAIR_AT; at < PACKET_BYTES; at++) if (packet[at] !== question[at]) return undefined;
  const flags = packet[FLAGS_AT]!;
  return { servesOverlay: (flags & SERVES_OVERLAY) !== 0, heard: (flags & HEARD) !== 0 };
}
