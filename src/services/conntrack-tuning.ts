import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { RememberedSysctls } from '../kernel/remembered-sysctls.ts';
import { readSysctl, writeSysctl } from '../kernel/sysctl.ts';
import { describeError, isTwillError } from '../model/error.ts';
import type { Log } from '../process/log.ts';
import {
  type ConntrackWishes,
  connectionLimit,
  conntrackSettings,
  hashSize,
} from './plan/conntrack-settings.ts';
import { countCores } from './plan/cores.ts';

/** The settings of connection tracking in the kernel; writing throws where that may not be. */
export interface ConntrackKnobs {
  /** One of `net/netfilter`; undefined when the kernel has it not. */
  read(name: string): number | undefined;
  write(name: string, value: number): void;
  /** Buckets of the hash table, one for all network namespaces; undefined when it cannot be told. */
  buckets(): number | undefined;
  setBuckets(count: number): void;
  cores(): number;
}

const HASH_SIZE = '/sys/module/nf_conntrack/parameters/hashsize';
const ONLINE = '/sys/devices/system/cpu/online';

/** Those of this network namespace. @param file remembers what they were; undefined for nothing */
const kernelKnobs = (file: string | undefined): ConntrackKnobs => ({
  read: (name) => {
    const text = readSysctl(`net/netfilter/${name}`);
    return text === undefined ? undefined : Number(text);
  },
  write: (name, value) => {
    const write = file === undefined ? writeSysctl : new RememberedSysctls(file).write;
    write(`net/netfilter/${name}`, String(value));
  },
  buckets: () => (existsSync(HASH_SIZE) ? Number(readFileSync(HASH_SIZE, 'utf8')) : undefined),
  setBuckets: (count) => writeFileSync(HASH_SIZE, String(count)),
  // The limit is the node's: by the node's cores, not by those that this process may use.
  cores: () => (existsSync(ONLINE) ? countCores(readFileSync(ONLINE, 'utf8')) : 0) || availableParallelism(),
});

function cause(error: unknown): string {
  const reason = isTwillError(error) && error.cause !== undefined ? error.cause : error;
  return (reason as NodeJS.ErrnoException).code ?? describeError(error);
}

/**
 * Sets what is asked for where it is not so already. What may not be set is left: in a network namespace other than the
 * first the limit is read-only, and in a container all of it may be.
 * @param target the kernel's settings: the file that remembers what they were, undefined for none; or a test's own
 * @returns what could not be set, with the reason
 */
export function tuneConntrack(
  wishes: ConntrackWishes,
  log: Log,
  target: ConntrackKnobs | string | undefined,
): string[] {
  const knobs = typeof target === 'object' ? target : kernelKnobs(target);
  const failed: string[] = [];
  const attempt = (name: string, value: number, write: () => void): boolean => {
    try {
      write();
      log.info({ setting: name, value }, 'set');
      return true;
    } catch (error) {
      failed.push(`${name}=${value} (${cause(error)})`);
      return false;
    }
  };
  let limitHolds = true;
  const cores = knobs.cores();
  for (const { name, value, atLeast } of conntrackSettings(wishes, cores)) {
    const now = knobs.read(name);
    if (now === undefined) failed.push(`${name}=${value} (the kernel has no such setting)`);
    else if (now === value || (atLeast && now > value)) continue;
    else if (attempt(name, value, () => knobs.write(name, value))) continue;
    if (atLeast) limitHolds = false;
  }
  const buckets = hashSize(connectionLimit(wishes, cores));
  const standing = knobs.buckets();
  // A table for more connections than are let in would only take memory.
  if (limitHolds && standing !== undefined && standing < buckets)
    attempt('nf_conntrack hashsize', buckets, () => knobs.setBuckets(buckets));
  return failed;
}
