import {
  closeSync,
  constants,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { describeError } from '../model/error.ts';
import type { Log } from '../process/log.ts';
import { writeAtomically } from './durable.ts';
import type { PodKey, PodRecord } from './plan/pod.ts';

const { O_CREAT, O_WRONLY } = constants;
/** Bytes of the file of the addresses given out last: room for one of each family. */
const LAST_SIZE = 128;

/** The address given out last, by family name. */
type LastAddresses = Readonly<Record<string, string>>;

export function podKeyText({ network, containerId, ifname }: PodKey): string {
  return `${network}/${containerId}/${ifname}`;
}

/** Identifies this boot of the kernel. */
function currentBootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}

/**
 * The pod records: one file each below `STATE_DIR/pods`, named by the host-side veth. A record stands in its file before
 * `put` returns. What an earlier boot left is forgotten: no pod outlives a boot. So nothing here needs the disk's own
 * durability: only a crash of the agent must lose nothing.
 */
export class PodStore {
  private readonly directory: string;
  private readonly lastFile: string;
  private readonly records = new Map<string, PodRecord>();
  private last: LastAddresses;

  constructor(stateDir: string, log: Log) {
    this.directory = join(stateDir, 'pods');
    this.lastFile = join(this.directory, 'last-addresses');
    const bootFile = join(this.directory, 'boot-id');
    const bootId = currentBootId();
    if (readText(bootFile) !== bootId) rmSync(this.directory, { recursive: true, force: true });
    mkdirSync(this.directory, { recursive: true, mode: 0o700 });
    writeAtomically(bootFile, bootId);
    this.last = this.readLast();
    this.load(log);
  }

  get(key: PodKey): PodRecord | undefined {
    return this.records.get(podKeyText(key));
  }

  list(): PodRecord[] {
    return [...this.records.values()];
  }

  put(record: PodRecord): void {
    writeAtomically(this.fileOf(record), JSON.stringify(record));
    this.records.set(podKeyText(record), record);
  }

  remove(record: PodRecord): void {
    try {
      unlinkSync(this.fileOf(record));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
    this.records.delete(podKeyText(record));
  }

  lastAddress(family: string): string | undefined {
    return this.last[family];
  }

  /**
   * Remembers which addresses were given out last. Written in place: a torn file only forgets where the round is. Not
   * emptied first, which would cost half a millisecond on a disk.
   */
  setLast(last: LastAddresses): void {
    this.last = { ...this.last, ...last };
    const file = openSync(this.lastFile, O_WRONLY | O_CREAT, 0o600);
    try {
      writeSync(file, JSON.stringify(this.last).padEnd(LAST_SIZE), 0);
    } finally {
      closeSync(file);
    }
  }

  private fileOf(record: PodRecord): string {
    return join(this.directory, `${record.hostVeth}.json`);
  }

  private readLast(): LastAddresses {
    try {
      return JSON.parse(readText(this.lastFile) ?? '{}') as LastAddresses;
    } catch {
      return {};
    }
  }

  private load(log: Log): void {
    for (const name of readdirSync(this.directory)) {
      const path = join(this.directory, name);
      if (name.endsWith('.new')) rmSync(path, { force: true }); // a write that a crash cut short
      if (!name.endsWith('.json')) continue;
      try {
        const record = JSON.parse(readFileSync(path, 'utf8')) as PodRecord;
        this.records.set(podKeyText(record), record);
      } catch (error) {
        log.error({ file: path, error: describeError(error) }, 'unreadable pod record: skipped');
      }
    }
  }
}
