import type { AnswerFacts } from './packet.ts';

/**
 * What became of one question. `refused`: the kernel at the other end says that nobody listens: the node is reached, and
 * no agent measures there. `unsent`: this node's own kernel did not let it out.
 */
export type Reply =
  | { readonly kind: 'answered'; readonly micros: number; readonly facts: AnswerFacts }
  | { readonly kind: 'refused' }
  | { readonly kind: 'lost' }
  | { readonly kind: 'unsent'; readonly why: string };

/** Questions in a row that have to be lost before it is believed: a packet is lost now and then. */
export const CERTAIN = 3;

/** What the last questions by one path have shown; a few small numbers, since there may be thousands of nodes. */
export interface PathRecord {
  /** How many of the last 32 questions are known; an outage that has ended is no part of them. */
  readonly asked: number;
  /** The last 32, the newest in the lowest bit: 1 was lost. */
  readonly lost: number;
  /** How many were lost since one got through. */
  readonly streak: number;
  /** One got through, ever. */
  readonly ever: boolean;
  /** The last that got through was refused. */
  readonly refused: boolean;
  /** Round trip in microseconds, smoothed as TCP does; 0 where none is known. */
  readonly micros: number;
  /** Why the last one was not even sent; else undefined. */
  readonly unsent: string | undefined;
}

const noRecord: PathRecord = {
  asked: 0,
  lost: 0,
  streak: 0,
  ever: false,
  refused: false,
  micros: 0,
  unsent: undefined,
};

const REMEMBERED = 32;

export function countLost({ lost, asked }: PathRecord): number {
  let count = 0;
  for (let bit = 0; bit < asked; bit++) count += (lost >>> bit) & 1;
  return count;
}

export const gotThrough = ({ kind }: Reply): boolean => kind === 'answered' || kind === 'refused';

function noteReply(record: PathRecord, reply: Reply): PathRecord {
  const through = gotThrough(reply);
  const { micros, asked, lost } = through && record.streak >= CERTAIN ? noRecord : record;
  return {
    asked: Math.min(REMEMBERED, asked + 1),
    lost: (lost << 1) | (through ? 0 : 1),
    streak: through ? 0 : record.streak + 1,
    ever: record.ever || through,
    refused: through ? reply.kind === 'refused' : record.refused,
    micros:
      reply.kind !== 'answered'
        ? micros
        : micros === 0
          ? reply.micros
          : Math.round(micros + (reply.micros - micros) / 8),
    unsent: reply.kind === 'unsent' ? reply.why : undefined,
  };
}

/** What is known of one node in one family. */
export interface PartnerRecord {
  /** The addresses that were asked: a node that has moved begins anew. */
  readonly identity: string;
  readonly underlay: PathRecord;
  readonly overlay: PathRecord;
  /** How often in a row the underlay got through and the overlay did not. */
  readonly split: number;
  /** Both ends have an overlay address that is answered at. */
  readonly served: boolean;
  /** How often in a row a packet as large as pods' was lost while a small one had just come through, and how large it was. */
  readonly largeLost: number;
  readonly largeBytes: number;
  /** Whether the node has heard what went to it by the overlay and was lost; undefined where that is not known. */
  readonly heard: boolean | undefined;
  /** When it was last asked, whole seconds by the monotonic clock. */
  readonly at: number;
}

/** What came of asking a node once in one family. */
export interface Asked {
  readonly underlay: Reply | undefined;
  /** Undefined where this node has no overlay address to ask from. */
  readonly overlay: Reply | undefined;
  /** By the overlay, after a small one had come through it: what became of one as large as pods' packets. */
  readonly large?: { readonly bytes: number; readonly reply: Reply } | undefined;
  /** Where one by the overlay was lost, and the underlay then said so: whether it had come. */
  readonly heard: boolean | undefined;
}

export const newPartner = (identity: string): PartnerRecord => ({
  identity,
  underlay: noRecord,
  overlay: noRecord,
  split: 0,
  served: false,
  largeLost: 0,
  largeBytes: 0,
  heard: undefined,
  at: 0,
});

/** @param at whole seconds by the monotonic clock */
export function noteAsked(
  record: PartnerRecord,
  { underlay, overlay, large, heard }: Asked,
  at: number,
): PartnerRecord {
  const byUnderlay = underlay === undefined ? record.underlay : noteReply(record.underlay, underlay);
  const reached = underlay !== undefined && gotThrough(underlay);
  // What the node says of itself; one that does not say has no agent of ours, and its kernel answers everywhere.
  const theirs = underlay?.kind === 'answered' ? underlay.facts.servesOverlay : reached || record.served;
  if (overlay === undefined || (!theirs && !gotThrough(overlay)))
    return {
      ...record,
      underlay: byUnderlay,
      overlay: noRecord,
      split: 0,
      served: false,
      largeLost: 0,
      heard: undefined,
      at,
    };
  const through = gotThrough(overlay);
  const isLargeLost = through && large !== undefined && !gotThrough(large.reply);
  return {
    ...record,
    underlay: byUnderlay,
    overlay: noteReply(record.overlay, overlay),
    split: through ? 0 : record.split + (reached ? 1 : 0),
    served: true,
    largeLost: isLargeLost ? record.largeLost + 1 : 0,
    largeBytes: large?.bytes ?? record.largeBytes,
    heard: through && !isLargeLost ? undefined : (heard ?? record.heard),
    at,
  };
}
