import { TwillError } from '../../model/error.ts';
import { camelCase, type FlagValue, type FlagValues } from '../../model/flag.ts';
import { proxyFlags } from './flags.ts';
import { type IdleField, idleFields } from './idle-flags.ts';
import type { ProxyFlag } from './proxy-flag.ts';

export const apiVersion = 'kubeproxy.config.k8s.io/v1alpha1';
export const kind = 'KubeProxyConfiguration';

type Field = (ProxyFlag & { readonly field: string }) | IdleField;

const fields: ReadonlyMap<string, Field> = new Map(
  [...proxyFlags, ...idleFields].flatMap((entry) =>
    entry.field === undefined ? [] : [[entry.field, entry as Field] as const],
  ),
);
/** What either of the two modes has in a section of its own; of the other's section it changes nothing. */
const ofEitherMode = ['masqueradeAll', 'masqueradeBit', 'minSyncPeriod', 'syncPeriod'];

/** The fields as they count in a mode, by their paths. */
function fieldsOf(mode: unknown): ReadonlyMap<string, Field> {
  if (mode !== 'nftables') return fields;
  const own = new Map(fields);
  for (const name of ofEitherMode) {
    const [one, other] = [`iptables.${name}`, `nftables.${name}`];
    own.set(one, { ...fields.get(other)!, field: one }).set(other, { ...fields.get(one)!, field: other });
  }
  return own;
}

/** Paths that hold further fields. */
const sections: ReadonlySet<string> = new Set(
  [...fields.keys()].flatMap((path) => {
    const parts = path.split('.');
    return parts.slice(1).map((_, index) => parts.slice(0, index + 1).join('.'));
  }),
);

/** What a KubeProxyConfiguration says. */
export interface DecodedConfiguration {
  /** As flags would say it. */
  readonly values: FlagValues;
  /** What the field of a flag is called, in the mode that the file says. */
  readonly fieldOf: ReadonlyMap<string, string>;
  /** Fields with a value of their own that changes nothing, and why. */
  readonly idle: readonly { readonly field: string; readonly value: unknown; readonly why: string }[];
}

const durations = /^[+-]?(0|((\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h))+)$/;

const wanted: Readonly<Record<Field['kind'], string>> = {
  text: 'a text',
  list: 'a list of texts',
  boolean: 'true or false',
  integer: 'a whole number',
  number: 'a number',
  duration: 'a duration in quotes or letters (for example 30s)',
  any: 'a value',
};

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function fits({ kind: type, field }: Field, value: unknown): boolean {
  switch (type) {
    case 'text':
      return typeof value === 'string';
    case 'boolean':
      return typeof value === 'boolean';
    case 'integer':
      return Number.isInteger(value) && Math.abs(value as number) < 2 ** 31;
    case 'number':
      return typeof value === 'number' && Number.isFinite(value);
    case 'duration':
      return typeof value === 'string' && durations.test(value);
    case 'list':
      if (field === 'featureGates')
        return (
          isRecord(value) && Object.values(value).every((gate) => gate === null || typeof gate === 'boolean')
        );
      return Array.isArray(value) && value.every((entry) => typeof entry === 'string');
    case 'any':
      return true;
  }
}

/** Zero values, which Go cannot tell from what is not there. */
function isZero(value: unknown): boolean {
  if (value === '' || value === 0 || value === '0' || value === false) return true;
  if (typeof value === 'string' && durations.test(value)) return !/[1-9]/.test(value);
  if (Array.isArray(value)) return value.length === 0;
  return isRecord(value) && Object.keys(value).length === 0;
}

function asFlag(value: unknown): FlagValue {
  if (typeof value === 'boolean' || typeof value === 'string') return value;
  if (Array.isArray(value)) return value as string[];
  if (isRecord(value)) return Object.entries(value).map(([gate, on]) => `${gate}=${on ?? false}`);
  return String(value);
}

/**
 * Reads a KubeProxyConfiguration as kube-proxy's strict decoding does: names count with their case, and what is not known
 * is an error. A zero value means the standard, but for fields that are pointers in Go.
 * @param document what the YAML or JSON says
 * @throws TwillError `invalid` naming every field that is unknown or of the wrong kind
 */
export function decodeConfiguration(document: unknown): DecodedConfiguration {
  if (!isRecord(document)) throw new TwillError('invalid', `it is no ${kind}`);
  if (document.apiVersion !== apiVersion || document.kind !== kind) {
    const found = `${document.kind ?? 'no kind'} of ${document.apiVersion ?? 'no apiVersion'}`;
    throw new TwillError('invalid', `it is ${found}, not ${kind} of ${apiVersion}`);
  }
  const known = fieldsOf(document.mode);
  const values: Record<string, FlagValue> = {};
  const idle: { field: string; value: unknown; why: string }[] = [];
  const problems: string[] = [];
  const take = (entry: Field, value: unknown): void => {
    if (!fits(entry, value)) {
      const right =
        entry.field === 'featureGates' ? 'a section of NAME: true or NAME: false' : wanted[entry.kind];
      problems.push(`field '${entry.field}' is ${JSON.stringify(value)}, not ${right}`);
      return;
    }
    if (isZero(value) && entry.zeroCounts === undefined) return;
    if ('name' in entry) values[camelCase(entry.name)] = asFlag(value);
    else if (value !== entry.standard) idle.push({ field: entry.field, value, why: entry.idle });
  };
  const walk = (part: Record<string, unknown>, prefix: string): void => {
    for (const [name, value] of Object.entries(part)) {
      const path = prefix + name;
      const entry = known.get(path);
      if (path === 'apiVersion' || path === 'kind') continue;
      if (entry === undefined && !sections.has(path)) problems.push(`unknown field '${path}'`);
      else if (value === null || value === undefined) continue;
      else if (entry !== undefined) take(entry, value);
      else if (isRecord(value)) walk(value, `${path}.`);
      else problems.push(`field '${path}' is ${JSON.stringify(value)}, not a section with fields`);
    }
  };
  walk(document, '');
  if (problems.length > 0) throw new TwillError('invalid', problems.join('; '));
  const named = [...known].flatMap(([path, entry]) => ('name' in entry ? [[entry.name, path] as const] : []));
  return { values, idle, fieldOf: new Map(named) };
}

/** A value as the file has it. */
export type FieldValue = string | number | boolean | readonly string[] | Readonly<Record<string, boolean>>;

function typed({ kind: type, field }: Field, value: FieldValue | undefined): unknown {
  if (value !== undefined) return value;
  switch (type) {
    case 'list':
      return field === 'featureGates' ? {} : null;
    case 'integer':
    case 'number':
      return 0;
    default:
      return '';
  }
}

/**
 * The configuration as a KubeProxyConfiguration with every field.
 * @param valueFor what counts for a flag, of the field's type; undefined where that is nothing
 * @param idle what a file says that changes nothing here: whoever reads the document next may be another program
 */
export function encodeConfiguration(
  valueFor: (flag: ProxyFlag) => FieldValue | undefined,
  idle: DecodedConfiguration['idle'] = [],
): Record<string, unknown> {
  const kept = new Map(idle.map(({ field, value }) => [field, value]));
  const document: Record<string, unknown> = { apiVersion, kind };
  const mode = valueFor(proxyFlags.find(({ field }) => field === 'mode')!);
  for (const [path, entry] of [...fieldsOf(mode)].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const isOptional = path === 'udpIdleTimeout' || path === 'windowsRunAsService' || entry.kind === 'any';
    if (isOptional && !kept.has(path)) continue;
    const parts = path.split('.');
    let part = document;
    for (const name of parts.slice(0, -1)) {
      part[name] ??= {};
      part = part[name] as Record<string, unknown>;
    }
    part[parts.at(-1)!] =
      'name' in entry ? typed(entry, valueFor(entry)) : (kept.get(path) ?? typed(entry, entry.standard));
  }
  return document;
}
