import { isTwillError } from '../../model/error.ts';
import { goField } from '../../model/go-json.ts';
import {
  type CniCall,
  type CniFailure,
  cniErrors,
  isOlder,
  latestVersion,
  supportedVersions,
} from '../plan/protocol.ts';
import { configVersion, isSupportedVersion, type NetConf, parseNetConf } from './netconf.ts';
import { interfaceNameProblem, isObject, namePattern } from './schema.ts';

export const commands = ['ADD', 'DEL', 'CHECK', 'GC', 'STATUS'] as const;
export type Command = (typeof commands)[number];

/** A call whose parameters are all valid for its command. */
export interface CniRequest {
  readonly command: Command;
  /** Empty for GC and STATUS. */
  readonly containerId: string;
  /** Empty for GC and STATUS, and where DEL came without. */
  readonly netns: string;
  /** Empty for GC and STATUS. */
  readonly ifname: string;
  /** CNI_ARGS, taken apart. */
  readonly args: Readonly<Record<string, string>>;
  readonly config: NetConf;
}

export type ParsedCall =
  | { readonly ok: true; readonly request: CniRequest }
  | { readonly ok: false; readonly failure: CniFailure; readonly version: unknown };

/** The parameters each command requires (CNI specification, section 2, "CNI operations"). */
const required: Readonly<Record<Command, readonly ('CNI_CONTAINERID' | 'CNI_NETNS' | 'CNI_IFNAME')[]>> = {
  ADD: ['CNI_CONTAINERID', 'CNI_NETNS', 'CNI_IFNAME'],
  DEL: ['CNI_CONTAINERID', 'CNI_IFNAME'],
  CHECK: ['CNI_CONTAINERID', 'CNI_NETNS', 'CNI_IFNAME'],
  GC: [],
  STATUS: [],
};

/** The version of the specification that introduced a command. */
const since: Readonly<Partial<Record<Command, string>>> = { CHECK: '0.4.0', GC: '1.1.0', STATUS: '1.1.0' };

/** "Alphanumeric key-value pairs separated by semicolons"; undefined when it is not that. */
function parseArgs(text: string): Record<string, string> | undefined {
  const pairs = text
    .split(';')
    .filter((pair) => pair !== '')
    .map((pair) => [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)] as const);
  if (text.split(';').some((pair) => pair !== '' && pair.indexOf('=') <= 0)) return undefined;
  return Object.fromEntries(pairs);
}

function environmentProblem(call: CniCall): string | undefined {
  const { environment } = call;
  const command = commands.find((known) => known === environment.CNI_COMMAND);
  if (command === undefined)
    return `CNI_COMMAND is '${environment.CNI_COMMAND ?? ''}'; it must be one of ${commands.join(', ')}, VERSION`;
  const missing = required[command].filter((name) => (environment[name] ?? '') === '');
  if (missing.length > 0) return `${command} needs ${missing.join(', ')}`;
  const { CNI_CONTAINERID: containerId = '', CNI_IFNAME: ifname = '' } = environment;
  if (containerId !== '' && !namePattern.test(containerId))
    return `CNI_CONTAINERID '${containerId}' must be alphanumeric with _ . and -`;
  const problem = interfaceNameProblem(ifname);
  if (problem !== undefined) return `CNI_IFNAME '${ifname}' ${problem}`;
  // A deletion is carried out whatever its arguments are: they say nothing about what to delete.
  if (command === 'DEL' || parseArgs(environment.CNI_ARGS ?? '') !== undefined) return undefined;
  return `CNI_ARGS '${environment.CNI_ARGS}' must be KEY=VALUE pairs separated by semicolons`;
}

/** Why a command cannot be carried out in the configuration's version, if it cannot. */
function versionProblem(command: Command, config: Readonly<Record<string, unknown>>): string | undefined {
  const wanted = configVersion(config);
  const oldest = since[command] ?? wanted;
  if (!isSupportedVersion(wanted))
    return `cniVersion ${wanted} is not supported; set one of ${supportedVersions.join(', ')}`;
  return isOlder(wanted, oldest) ? `${command} came with cniVersion ${oldest}, not ${wanted}` : undefined;
}

/** Checks everything about a call that can be checked without looking at the node. */
export function parseCall(call: CniCall): ParsedCall {
  let version: unknown;
  const refuse = (code: number, msg: string): ParsedCall => ({ ok: false, failure: { code, msg }, version });
  let config: unknown;
  try {
    config = JSON.parse(call.input);
  } catch {
    config = undefined;
  }
  if (!isObject(config))
    return refuse(cniErrors.decodeFailure, 'the network configuration is not a JSON object');
  version = goField(config, 'cniVersion');
  const problem = environmentProblem(call);
  if (problem !== undefined) return refuse(cniErrors.invalidEnvironment, problem);
  try {
    const isDeletion = call.environment.CNI_COMMAND === 'DEL';
    const unfit = isDeletion ? undefined : versionProblem(call.environment.CNI_COMMAND as Command, config);
    if (unfit !== undefined) return refuse(cniErrors.incompatibleVersion, unfit);
    const parsed = parseNetConf(isDeletion ? identity(config) : config);
    if ('field' in parsed) {
      const { field, value, advice } = parsed;
      const msg = `network configuration: ${field} is ${JSON.stringify(value)}, which is not supported. ${advice}`;
      return refuse(cniErrors.unsupportedField, msg);
    }
    return { ok: true, request: { ...parameters(call), config: parsed } };
  } catch (error) {
    if (!isTwillError(error, 'invalid')) throw error;
    return refuse(cniErrors.invalidConfig, error.message);
  }
}

/**
 * The part of a configuration that says which attachment is meant. Tear-down is best effort: neither what was changed or
 * damaged since ADD nor a missing or ancient version keeps it from being done, and its answer has no version.
 */
function identity(config: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  return { cniVersion: latestVersion, name: goField(config, 'name') };
}

function parameters(call: CniCall): Omit<CniRequest, 'config'> {
  const {
    CNI_COMMAND,
    CNI_CONTAINERID = '',
    CNI_NETNS = '',
    CNI_IFNAME = '',
    CNI_ARGS = '',
  } = call.environment;
  return {
    command: CNI_COMMAND as Command,
    containerId: CNI_CONTAINERID,
    netns: CNI_NETNS,
    ifname: CNI_IFNAME,
    args: parseArgs(CNI_ARGS) ?? {},
  };
}
