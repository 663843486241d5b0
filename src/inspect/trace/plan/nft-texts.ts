/** Values as nft writes them, and what rules write to compare with. */
import { addressValue, isWithin, matchesDevice, parseMasked } from './packet.ts';

export type Json = null | boolean | number | string | readonly Json[] | { readonly [name: string]: Json };

/** Text for addresses and names, numbers, lists for concatenations and sets of flags. */
export type Value = string | number | boolean | readonly Value[];

/** `0:1000`, the hexadecimal halves of a number, as traffic control writes it. */
export function classNumber(text: string): number | undefined {
  if (text === 'none') return 0;
  const match = /^([0-9a-f]*):([0-9a-f]*)$/.exec(text);
  if (match === null) return undefined;
  return ((Number.parseInt(match[1] || '0', 16) << 16) | Number.parseInt(match[2] || '0', 16)) >>> 0;
}

/** A value as nft takes it for a key of this type. */
export function keyText(value: Value, type: string | undefined): string {
  if (type === 'classid' && typeof value === 'number')
    return `${(value >>> 16).toString(16)}:${(value & 0xffff).toString(16)}`;
  return String(value);
}

function readText(text: string, type: string | undefined): Value {
  if (type === 'classid') return classNumber(text) ?? text;
  return /^(0x[0-9a-f]+|\d+)$/.test(text) ? Number(text) : text.replace(/^"(.*)"$/, '$1');
}

/** What a map's element leads to, read from nft's print. */
export function readValue(text: string, types: readonly string[]): Value {
  const parts = text.split(' . ').map((part, index) => readText(part.trim(), types[index]));
  return parts.length === 1 ? parts[0]! : parts;
}

function addressNumber(text: Value): bigint | undefined {
  if (typeof text !== 'string') return typeof text === 'number' ? BigInt(text) : undefined;
  return rangeNumber(text);
}

function rangeNumber(text: string): bigint | undefined {
  return /^[0-9a-f:.]+$/i.test(text) ? addressValue(text) : undefined;
}

const constants: readonly string[] = ['set', 'elem', 'prefix', 'range', 'concat'];

/** Whether a rule compares with what stands in it, and not with what another expression says of the packet. */
export function isConstant(written: Json): boolean {
  if (written === null || typeof written !== 'object') return written !== null;
  if (Array.isArray(written)) return written.every(isConstant);
  return Object.keys(written).every((name) => constants.includes(name));
}

/** Whether what a rule writes (a value, prefix, range, or several of them) holds for a value. */
export function holds(written: Json, value: Value): boolean {
  if (written === null) return false;
  if (typeof written !== 'object') {
    if (Array.isArray(value)) return value.length === 1 ? holds(written, value[0]!) : value.includes(written);
    if (typeof written === 'string' && typeof value === 'string' && written.endsWith('*'))
      return matchesDevice(value, written);
    if (typeof written === 'string' && typeof value === 'number') return classNumber(written) === value;
    return written === value;
  }
  if (Array.isArray(written)) return written.some((one) => holds(one, value));
  const { set, prefix, range, concat, elem } = written as Record<string, Json>;
  if (set !== undefined) return (set as readonly Json[]).some((one) => holds(one, value));
  if (elem !== undefined) return holds((elem as { val: Json }).val, value);
  if (prefix !== undefined) {
    const { addr, len } = prefix as { addr: string; len: number };
    return typeof value === 'string' && isWithin(value, parseMasked(`${addr}/${len}`));
  }
  if (range !== undefined) {
    const [low, high] = (range as readonly Value[]).map(addressNumber);
    const number = addressNumber(value);
    return number !== undefined && low !== undefined && high !== undefined && number >= low && number <= high;
  }
  if (concat === undefined || !Array.isArray(value)) return false;
  return (concat as readonly Json[]).every(
    (part, index) => value[index] !== undefined && holds(part, value[index]),
  );
}
