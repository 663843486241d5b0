import { oneLine } from './text.ts';

/**
 * What went wrong, as a closed set: callers decide on the code, people read the message.
 *
 * - `invalid`: input (configuration, netconf, key, object) that will stay wrong until somebody changes it
 * - `unavailable`: something we depend on does not answer now; trying again may help
 * - `not-found` / `exists`: the object is absent / already there
 * - `conflict`: somebody else changed or owns the object
 * - `exhausted`: a range, table or limit is full
 * - `permission`: the kernel or a server refuses us
 * - `missing-program`: an executable we need is not installed
 * - `timeout`: no answer within the deadline
 * - `kernel`: any other refusal by the kernel
 * - `internal`: a bug in Twill
 */
export type ErrorCode =
  | 'invalid'
  | 'unavailable'
  | 'not-found'
  | 'exists'
  | 'conflict'
  | 'exhausted'
  | 'permission'
  | 'missing-program'
  | 'timeout'
  | 'kernel'
  | 'internal';

/** The one error class. `message` names the thing and says what to do; `cause` keeps what was underneath. */
export class TwillError extends Error {
  override readonly name = 'TwillError';
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
  }
}

/** True when `error` is a TwillError, and of one of `codes` if any are given. */
export function isTwillError(error: unknown, ...codes: ErrorCode[]): error is TwillError {
  return error instanceof TwillError && (codes.length === 0 || codes.includes(error.code));
}

/** A URL from behind its scheme to its end, where its end is the word's: what has no user's name in it is not read again. */
const authority =
  /:\/\/(?<=[a-z][0-9+.-]*:\/\/)([^\s'"\\]*(?:\\.[^\s'"\\]*)*@)?[^\s'"\\]*(?:\\.[^\s'"\\]*)*/gi;

/**
 * The text without the user names and passwords that URLs in it have: what is logged, or shown to whoever asks, must not
 * tell them. Rather too much is left out than too little: a password may have any character.
 */
export function withoutCredentials(text: string): string {
  if (!text.includes('@')) return text;
  return text.replace(authority, (rest: string, user: string | undefined) =>
    user === undefined ? rest : `://***@${rest.slice(`://${user}`.length)}`,
  );
}

/** Characters of an error's text; `oneLine` shows fewer. */
const MOST_READ = 10_000;

/** One line for a log or a status page: the message and those of the causes beneath it. */
export function describeError(error: unknown): string {
  const parts: string[] = [];
  let current: unknown = error;
  while (current instanceof Error && parts.length < 5) {
    if (!parts.some((part) => part.includes((current as Error).message))) parts.push(current.message);
    current = current.cause;
  }
  const text = parts.length > 0 ? parts.join(': ') : String(error);
  // Cut before anything looks through it: what an error quotes may be of any length.
  return oneLine(withoutCredentials(text.slice(0, MOST_READ)).replace(/(?<!\s)\s*[\r\n]\s*/g, ' '));
}
