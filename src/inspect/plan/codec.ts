import { type Family, families, parseAddress, parsePrefix } from '../../model/address.ts';

/**
 * Values with addresses, prefixes, families, maps and sets in them as JSON, and back: what agent and proxy tell the
 * inspection commands is the words that they think in.
 */

const SIGN = '@';

const isFamily = (value: object): value is Family => families.some((family) => family === value);
/** An address or a prefix. */
const isPlace = (value: object): value is { readonly text: string } =>
  'text' in value &&
  'family' in value &&
  typeof value.text === 'string' &&
  (('value' in value && typeof value.value === 'bigint') || ('address' in value && 'length' in value));

/** What JSON has words for; walked by hand, since a replacer of JSON.stringify takes five times as long. */
function plain(value: unknown): unknown {
  if (typeof value === 'string') return value.startsWith(SIGN) ? `${SIGN}${value}` : value;
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map(plain);
  if (isFamily(value)) return { '@': value.name };
  if (isPlace(value)) return { '@': value.text };
  if (value instanceof Map) return { '@map': [...value].map(plain) };
  if (value instanceof Set) return { '@set': [...value].map(plain) };
  const result: Record<string, unknown> = {};
  for (const name of Object.keys(value)) result[name] = plain((value as Record<string, unknown>)[name]);
  return result;
}

function decodeMark(text: string): unknown {
  const family = families.find(({ name }) => name === text);
  return family ?? (text.includes('/') ? parsePrefix(text) : parseAddress(text));
}

/** The inverse of {@link plain}, in place. */
function revived(value: unknown): unknown {
  if (typeof value === 'string') return value.startsWith(SIGN) ? value.slice(1) : value;
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) {
    for (let index = 0; index < value.length; index++) value[index] = revived(value[index]);
    return value;
  }
  const fields = value as Record<string, unknown>;
  const { '@': mark, '@map': map, '@set': set } = fields;
  if (typeof mark === 'string') return decodeMark(mark);
  if (Array.isArray(map)) return new Map(revived(map) as [unknown, unknown][]);
  if (Array.isArray(set)) return new Set(revived(set) as unknown[]);
  for (const name of Object.keys(fields)) fields[name] = revived(fields[name]);
  return fields;
}

export const encodeState = (value: unknown): string => JSON.stringify(plain(value));

/** Characters of a piece, but for the last value in it. */
const PIECE = 16_384;

/**
 * What {@link encodeState} returns, in pieces: thousands of leases as one text would be the peak of a process's memory.
 * Lists that are a property of the state are taken apart.
 */
export function* encodeStatePieces(state: object): Generator<Uint8Array> {
  const encoder = new TextEncoder();
  let text = '';
  const piece = (): Uint8Array => {
    const bytes = encoder.encode(text);
    text = '';
    return bytes;
  };
  let before = '{';
  for (const [name, value] of Object.entries(state)) {
    if (value === undefined) continue;
    text += `${before}${JSON.stringify(name)}:`;
    before = ',';
    if (Array.isArray(value)) {
      text += '[';
      for (let index = 0; index < value.length; index++) {
        text += `${index === 0 ? '' : ','}${encodeState(value[index]) ?? 'null'}`;
        if (text.length >= PIECE) yield piece();
      }
      text += ']';
    } else text += encodeState(value);
    if (text.length >= PIECE) yield piece();
  }
  text += before === '{' ? '{}' : '}';
  yield piece();
}

/** @throws SyntaxError, or TwillError `invalid`, for a text that {@link encodeState} has not made */
export const decodeState = (text: string): unknown => revived(JSON.parse(text));
