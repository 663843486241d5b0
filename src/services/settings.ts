import { readFileSync } from 'node:fs';
import { describeError, TwillError } from '../model/error.ts';
import type { FlagValues } from '../model/flag.ts';
import { formatDuration } from '../process/duration.ts';
import { type FlagFile, FlagReader } from '../process/flag-reader.ts';
import { asGoReads } from '../process/go-yaml.ts';
import { featureGates, proxyConfig } from './config.ts';
import {
  type DecodedConfiguration,
  decodeConfiguration,
  encodeConfiguration,
  type FieldValue,
} from './plan/configuration.ts';
import { proxyFlags } from './plan/flags.ts';
import type { ProxyFlag } from './plan/proxy-flag.ts';

/** A configuration file as it was read. */
export interface ConfigurationFile extends DecodedConfiguration {
  readonly path: string;
  readonly text: string;
}

/** What flags, environment and configuration file say. */
export interface ProxySettings {
  readonly read: FlagReader;
  readonly file: ConfigurationFile | undefined;
  /** What is accepted and changes nothing: its place and why. */
  readonly idle: readonly { readonly setting: string; readonly why: string }[];
  /** What would count with another version of the file. */
  readonly readWith: (file: ConfigurationFile) => FlagReader;
}

/** The one document of a text, empty ones left out. @throws TwillError `invalid` */
async function parseYaml(text: string): Promise<unknown> {
  // Loaded where it is needed: most proxies have only flags.
  const { parseAllDocuments } = await import('yaml');
  const all = parseAllDocuments(text, { logLevel: 'error', ...asGoReads });
  const documents = Array.isArray(all) ? all : [];
  const error = documents.flatMap(({ errors }) => errors)[0];
  if (error !== undefined) throw new TwillError('invalid', error.message.split('\n')[0]!);
  const full = documents.map((one): unknown => one.toJS()).filter((value) => value !== null);
  if (full.length > 1)
    throw new TwillError(
      'invalid',
      `there are ${full.length} documents, not one: keep the KubeProxyConfiguration alone`,
    );
  return full[0];
}

/** @throws TwillError `invalid` naming the file and what is wrong in it */
export async function decodeFile(path: string, text: string): Promise<ConfigurationFile> {
  try {
    return { path, text, ...decodeConfiguration(await parseYaml(text)) };
  } catch (cause) {
    throw new TwillError('invalid', `--config ${path}: ${describeError(cause)}`);
  }
}

async function readConfigurationFile(path: string): Promise<ConfigurationFile> {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    throw new TwillError('invalid', `--config ${path} cannot be read`, cause);
  }
  return await decodeFile(path, text);
}

/** Flags that the file decides about alone. */
const decided: ReadonlySet<string> = new Set(
  proxyFlags.filter((flag) => flag.beside !== true).map(({ name }) => name),
);

function asFlagFile({ path, values, fieldOf }: ConfigurationFile): FlagFile {
  return { values, decides: decided, called: (name) => `${fieldOf.get(name) ?? name} in ${path}` };
}

function idleSettings(read: FlagReader, file: ConfigurationFile | undefined): ProxySettings['idle'] {
  const idle: { setting: string; why: string }[] = [];
  for (const { name, idle: why, standard } of proxyFlags) {
    const given = read.given(name);
    if (read.isOverruled(name)) {
      const field = file?.fieldOf.get(name);
      const instead = field === undefined ? '' : `: ${field} is its field there`;
      idle.push({ setting: `--${name}`, why: `the file of --config counts${instead}` });
    } else if (why !== undefined && given !== undefined && String(given) !== String(standard))
      idle.push({ setting: read.called(name), why });
  }
  for (const { field, why } of file?.idle ?? []) idle.push({ setting: `${field} in ${file!.path}`, why });
  return idle;
}

/**
 * Reads flags, environment (`TWILL_…`) and the file of `--config` in kube-proxy's order: where a file is given it decides,
 * but for the flags that say which node this is, how to log, and those that the file has no field for.
 * @throws TwillError `invalid` naming the file
 */
export async function readProxySettings(
  flags: FlagValues,
  env: Readonly<Record<string, string | undefined>>,
): Promise<ProxySettings> {
  const outside = { flags, env, prefixes: ['TWILL_'] };
  const path = new FlagReader(proxyFlags, outside).text('config');
  const file = path === undefined ? undefined : await readConfigurationFile(path);
  const readWith = (other: ConfigurationFile | undefined): FlagReader =>
    new FlagReader(proxyFlags, { ...outside, file: other && asFlagFile(other) });
  const read = readWith(file);
  return { read, file, idle: idleSettings(read, file), readWith };
}

/** A value that was given, checked, as a file has it. */
function fieldValue(read: FlagReader, { name, kind, field }: ProxyFlag): FieldValue {
  switch (kind) {
    case 'boolean':
      return read.boolean(name);
    case 'integer':
      return read.integer(name, -(2 ** 31), 2 ** 31 - 1);
    case 'number':
      return read.number(name);
    case 'duration':
      return formatDuration(read.duration(name));
    case 'list':
      return field === 'featureGates' ? featureGates(read) : read.items(name);
    case 'text':
      return read.text(name) ?? '';
  }
}

/**
 * The settings that count, as a KubeProxyConfiguration.
 * @throws TwillError `invalid` naming a setting that cannot be used
 */
export function asConfiguration({ read, file }: ProxySettings): Record<string, unknown> {
  const config = proxyConfig(read);
  // What these come to depends on others.
  const told: Readonly<Record<string, FieldValue | undefined>> = {
    'hostname-override': read.text('hostname-override') && config.nodeName,
    'healthz-bind-address': config.healthzAddress?.text ?? '',
    'metrics-bind-address': config.metricsAddress?.text ?? '',
    ...(config.nodePortAddresses === 'primary' ? { 'nodeport-addresses': ['primary'] } : {}),
  };
  return encodeConfiguration((flag) => {
    if (Object.hasOwn(told, flag.name)) return told[flag.name];
    const isThere = read.given(flag.name) !== undefined || flag.standard !== undefined;
    return isThere ? fieldValue(read, flag) : undefined;
  }, file?.idle);
}

/** What was given on the command line, for `/flagz`: every flag with what counts. */
export function flagList({ read }: ProxySettings): readonly (readonly [name: string, value: string])[] {
  return proxyFlags
    .map(({ name, standard }) => [name, String(read.given(name) ?? standard ?? '')] as const)
    .sort(([a], [b]) => (a < b ? -1 : 1));
}
