import { isTwillError } from '../model/error.ts';
import {
  configVersion,
  isObject,
  isSupportedVersion,
  type NetConf,
  namePattern,
  parseNetConf,
} from './netconf.ts';
import { type CniCall, type CniFailure, cniErrors, supportedVersions } from './protocol.ts';

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
  readonly config: NetConf;
  readonly queuedAt: number | undefined;
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

/** What is wrong with an interface name, if anything (CNI specification, section 2, "Parameters"). */
function interfaceNameProblem(name: string): string | undefined {
  if (name === '.' || name === '..') return 'must not be . or ..';
  if (Buffer.byteLength(name) > 15) return 'must have at most 15 characters';
  if (/[/:\s]/.test(name)) return 'must not contain /, : or white space';
  return undefined;
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
  return problem === undefined ? undefined : `CNI_IFNAME '${ifname}' ${problem}`;
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
  version = config.cniVersion;
  const problem = environmentProblem(call);
  if (problem !== undefined) return refuse(cniErrors.invalidEnvironment, problem);
  try {
    const wanted = configVersion(config);
    if (!isSupportedVersion(wanted)) {
      return refuse(
        cniErrors.incompatibleVersion,
        `cniVersion ${wanted} is not supported; set one of ${supportedVersions.join(', ')}`,
      );
    }
    return { ok: true, request: { ...parameters(call), config: parseNetConf(config) } };
  } catch (error) {
    if (!isTwillError(error, 'invalid')) throw error;
    return refuse(cniErrors.invalidConfig, error.message);
  }
}

function parameters(call: CniCall): Omit<CniRequest, 'config'> {
  const { CNI_COMMAND, CNI_CONTAINERID = '', CNI_NETNS = '', CNI_IFNAME = '' } = call.environment;
  return {
    command: CNI_COMMAND as Command,
    containerId: CNI_CONTAINERID,
    netns: CNI_NETNS,
    ifname: CNI_IFNAME,
    queuedAt: call.queuedAt,
  };
}
