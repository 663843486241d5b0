import type { Family } from '../../model/address.ts';

/**
 * What nodes ask and answer each other to learn whether they are reached. An answer is as long as its question, so that
 * nobody can have more sent to somebody than he sends himself. A question may have zeros behind it, to be as large as what
 * pods send.
 *
 * | bytes | what                                                                                     |
 * | ----- | ---------------------------------------------------------------------------------------- |
 * | 4     | `TWLM`                                                                                   |
 * | 1     | version, 1                                                                               |
 * | 1     | 1 question, 2 answer                                                                     |
 * | 2     | of an answer: bit 0: the overlay is answered, too; bit 1: the pair was heard by the overlay; bits 2 to 15, the low ones first: a quarter of the largest packet that the node takes, 0 from one that answers small questions only |
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
const SIZE_SHIFT = 2;
const SIZE_UNIT = 4;
const MOST_UNITS = 0x3fff;

/** What is as long as a small question, or a little longer, is no large one. */
const LEAST_LARGE = 512;

/** Headers of IP and UDP, in bytes. */
const HEADERS = { ipv4: 28, ipv6: 48 } as const;

/** Bytes of a question that is a packet of this many. @returns undefined where that is not larger than others */
export function questionBytes({ name }: Pick<Family, 'name'>, packetBytes: number): number | undefined {
  const bytes = packetBytes - HEADERS[name];
  return bytes < LEAST_LARGE ? undefined : bytes;
}

/** What an answer says besides that it is one. */
export interface AnswerFacts {
  /** The node answers at its overlay address, too. */
  readonly servesOverlay: boolean;
  /** The question of the same pair that went by the overlay has come. */
  readonly heard: boolean;
  /** Bytes of the largest packet that pods of that node get; 0 where it does not say. */
  readonly largest: number;
}

/** @param pair 8 bytes @param token 16 bytes @param bytes how long it is, by {@link questionBytes} */
export function makeQuestion(pair: Uint8Array, token: Uint8Array, bytes = PACKET_BYTES): Uint8Array {
  const packet = new Uint8Array(bytes);
  packet.set([...magic, VERSION, QUESTION]);
  packet.set(pair, PAIR_AT);
  packet.set(token, TOKEN_AT);
  return packet;
}

function isOfKind(packet: Uint8Array, kind: number): boolean {
  return (
    (packet.length === PACKET_BYTES || packet.length >= LEAST_LARGE) &&
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
export function makeAnswer(question: Uint8Array, { servesOverlay, heard, largest }: AnswerFacts): Uint8Array {
  const packet = Uint8Array.from(question);
  const units = Math.min(MOST_UNITS, Math.floor(largest / SIZE_UNIT));
  const facts = (servesOverlay ? SERVES_OVERLAY : 0) | (heard ? HEARD : 0) | (units << SIZE_SHIFT);
  packet.set([ANSWER, facts & 0xff, facts >> 8], KIND_AT);
  return packet;
}

/** @returns undefined for what is no answer to this question */
export function readAnswer(question: Uint8Array, packet: Uint8Array): AnswerFacts | undefined {
  if (!isOfKind(packet, ANSWER) || packet.length !== question.length) return undefined;
  for (let at = PAIR_AT; at < PACKET_BYTES; at++) if (packet[at] !== question[at]) return undefined;
  const facts = packet[FLAGS_AT]! | (packet[FLAGS_AT + 1]! << 8);
  return {
    servesOverlay: (facts & SERVES_OVERLAY) !== 0,
    heard: (facts & HEARD) !== 0,
    largest: (facts >> SIZE_SHIFT) * SIZE_UNIT,
  };
}
