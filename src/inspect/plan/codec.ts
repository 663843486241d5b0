import { type Family, families, parseAddress, parsePrefix } from '../../model/address.ts';

/**
 * Values with addresses, prefixes, families, maps and sets in them as JSON, and back: what agent and proxy tell the
 * inspection commands is the words that they think in.
 */

const SIGN = '@';

const isFamily = (value: object): value is Family => families.some((family) => family === value);
/** An address or a prefix. */
const isPlace = (value: object): value is { readonly text: string } =>
  'text' in value && 'family' in value && typeof value.text === 'string';

function encodeValue(_: string, value: unknown): unknown {
  if (typeof value === 'string') return value.startsWith(SIGN) ? `${SIGN}${value}` : value;
  if (typeof value !== 'object' || value === null) return value;
  // The sign must not be doubled when the text comes by here once more: only strings of the data do.
  if (isFamily(value)) return { '@': value.name };
  if (isPlace(value)) return { '@': value.text };
  if (value instanceof Map) return { '@map': [...value] };
  if (value instanceof Set) return { '@set': [...value] };
  return value;
}

function decodeMark(text: string): unknown {
  const family = families.find(({ name }) => name === text);
  return family ?? (text.includes('/') ? parsePrefix(text) : parseAddress(text));
}

function decodeValue(_: string, value: unknown): unknown {
  if (typeof value === 'string') return value.startsWith(SIGN) ? value.slice(1) : value;
  if (typeof value !== 'object' || value === null) return value;
  const marked = value as { '@'?: unknown; '@map'?: unknown; '@set'?: unknown };
  if (typeof marked['@'] === 'string') return decodeMark(marked['@']);
  if (Array.isArray(marked['@map'])) return new Map(marked['@map'] as [unknown, unknown][]);
  if (Array.isArray(marked['@set'])) return new Set(marked['@set']);
  return value;
}

export const encodeState = (value: unknown): string => JSON.stringify(value, encodeValue);

/** @throws SyntaxError, or TwillError `invalid`, for a text that {@link encodeState} has not made */
export const decodeState = (text: string): unknown => JSON.parse(text, decodeValue);
