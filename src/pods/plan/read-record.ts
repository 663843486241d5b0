import { parseAddress, parseCidr, parsePrefix } from '../../model/address.ts';
import { TwillError } from '../../model/error.ts';
import type { PodRecord } from './pod.ts';

/** What is in the file of a record. */
export type StoredRecord = PodRecord & { readonly version?: number };

type Fields = Readonly<Record<string, unknown>>;

const protocols: readonly unknown[] = ['tcp', 'udp', 'sctp'];
const texts = ['network', 'containerId', 'ifname', 'netns', 'mac', 'hostVeth', 'bridge'] as const;

function isObject(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function text(fields: Fields, name: string): string {
  const value = fields[name];
  if (typeof value !== 'string') throw new TwillError('invalid', `it has no ${name}`);
  return value;
}

/** One that is not there is empty. */
function list(fields: Fields, name: string): readonly unknown[] {
  const { [name]: value = [] } = fields;
  if (!Array.isArray(value)) throw new TwillError('invalid', `its ${name} are no list`);
  return value;
}

function objects(fields: Fields, name: string): readonly Fields[] {
  return list(fields, name).map((value) => {
    if (!isObject(value)) throw new TwillError('invalid', `its ${name} are damaged`);
    return value;
  });
}

function isPort(value: unknown): boolean {
  return Number.isInteger(value) && Number(value) > 0 && Number(value) <= 0xffff;
}

/** What may be absent, and would fail the rules of every pod, or be no limit, where it is something else. */
function checkOptions({ bandwidth = {}, hostPortOptions = {} }: Fields): void {
  if (!isObject(bandwidth) || Object.values(bandwidth).some((value) => typeof value !== 'number'))
    throw new TwillError('invalid', 'its bandwidth is damaged');
  const damaged = new TwillError('invalid', 'its hostPortOptions are damaged');
  if (!isObject(hostPortOptions)) throw damaged;
  const { markMasqBit = 0 } = hostPortOptions;
  if (typeof markMasqBit !== 'number') throw damaged;
  for (const field of ['conditionsV4', 'conditionsV6'])
    if (list(hostPortOptions, field).some((word) => typeof word !== 'string')) throw damaged;
}

/**
 * Reads the file of a record. One that is JSON and not whole would fail every call from then on, when its addresses are
 * asked for.
 * @throws Error saying what is damaged
 */
export function readRecord(written: string): StoredRecord {
  const found: unknown = JSON.parse(written);
  if (!isObject(found)) throw new TwillError('invalid', 'it is no record');
  for (const name of texts) text(found, name);
  if (found.addresses === undefined) throw new TwillError('invalid', 'it has no addresses');
  for (const entry of objects(found, 'addresses')) {
    parseCidr(text(entry, 'address'));
    parseAddress(text(entry, 'gateway'));
  }
  for (const route of list(found, 'routes')) parsePrefix(String(route));
  for (const { hostPort, containerPort, protocol, hostIP } of objects(found, 'portMappings')) {
    if (![hostPort, containerPort].every(isPort) || !protocols.includes(protocol))
      throw new TwillError('invalid', 'its portMappings are damaged');
    if (hostIP !== undefined) parseAddress(String(hostIP));
  }
  checkOptions(found);
  const { order } = found;
  return {
    ...(found as unknown as StoredRecord),
    routes: list(found, 'routes') as readonly string[],
    portMappings: list(found, 'portMappings') as PodRecord['portMappings'],
    // Early versions have none.
    order: typeof order === 'number' ? order : 0,
  };
}
