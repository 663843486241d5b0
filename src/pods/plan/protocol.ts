// Imports nothing: the executable starts with this file, and each of Node's modules costs it half a millisecond.

/** What the CNI executable and the agent say to each other, one JSON document per line each way. */

/** Where the agent listens unless the network configuration's `socket` says otherwise. */
export const defaultSocket = '/run/twill/cni.sock';

/** Versions of the CNI specification that are spoken, oldest first. */
export const supportedVersions = ['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'] as const;
export const latestVersion = '1.1.0';

/** Both must be supported versions. */
export function isOlder(version: string, other: string): boolean {
  const place = (text: string): number => (supportedVersions as readonly string[]).indexOf(text);
  return place(version) < place(other);
}

/** Error codes of the CNI specification (section 5, "Error"); 100 and above are ours. */
export const cniErrors = {
  incompatibleVersion: 1,
  unsupportedField: 2,
  unknownContainer: 3,
  invalidEnvironment: 4,
  ioFailure: 5,
  decodeFailure: 6,
  invalidConfig: 7,
  tryAgainLater: 11,
  /** STATUS: ADD cannot be served now. */
  notAvailable: 50,
  /** STATUS: ADD cannot be served, and pods that exist may have limited connectivity. */
  notAvailableLimited: 51,
  failed: 100,
  rangeFull: 101,
} as const;

/** Longest network configuration in bytes that is taken: one with prevResult has some kilobytes. */
export const maxInput = 1 << 20;
/** For DEL: whatever ADD took, and the result that ADD gave to it. */
export const maxDeletionInput = 4 * maxInput;

/** The variables that make a call (CNI specification, section 2, "Parameters"). */
export const cniVariables = [
  'CNI_COMMAND',
  'CNI_CONTAINERID',
  'CNI_NETNS',
  'CNI_IFNAME',
  'CNI_ARGS',
  'CNI_PATH',
] as const;

export type CniEnvironment = Partial<Record<(typeof cniVariables)[number], string>>;

/**
 * The version of what the executable and the agent say to each other. Either side may be the older one during an upgrade, and
 * after a downgrade: a new version may add fields, and nothing else; what a side does not know it passes over. Whatever
 * needs more than that gets another socket.
 */
export const protocolVersion = 1;

/** One run of the executable: its CNI variables and its standard input. */
export interface CniCall {
  /** Of whoever calls; absent from before it was said. */
  readonly protocol?: number;
  readonly environment: CniEnvironment;
  readonly input: string;
}

/** A question of an inspection command, asked through the same socket; the answer is one line of JSON. */
export interface InspectCall {
  /** `pods`: the records; what else there is the agent says. */
  readonly inspect: string;
}

/** What the executable prints on standard output, and its exit status. */
export interface CniAnswer {
  readonly status: 0 | 1;
  readonly output: string;
}

export interface CniFailure {
  readonly code: number;
  readonly msg: string;
  readonly details?: string;
}

/**
 * Milliseconds after which the executable stops waiting for the agent, unless the configuration's `timeoutSeconds` says
 * otherwise. Kubelet gives up a sandbox after 4 minutes and other calls after 2: whoever is stuck should learn it from
 * us, with a reason.
 */
export const callDeadlineMs = 60_000;

/** The answer to a call that failed; `version` is the configuration's, if it is one we speak. */
export function failureAnswer(failure: CniFailure, version: unknown): CniAnswer {
  const cniVersion = supportedVersions.some((known) => known === version) ? version : latestVersion;
  return { status: 1, output: `${JSON.stringify({ cniVersion, ...failure }, undefined, 2)}\n` };
}

/** The answer to VERSION: the caller's own version (or ours), and all that are supported. */
export function versionAnswer(version: unknown): CniAnswer {
  const cniVersion = typeof version === 'string' ? version : latestVersion;
  return { status: 0, output: `${JSON.stringify({ cniVersion, supportedVersions })}\n` };
}
