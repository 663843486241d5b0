import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Log } from '../config/log.ts';
import { describeError } from '../model/error.ts';
import type { PodKey, PodRecord } from '../model/pod.ts';
import { writeDurably } from './durable.ts';

interface Allocation {
  readonly bootId: string;
  /** The address given out last, by family name. */
  readonly last: Readonly<Record<string, string>>;
}

export function podKeyText({ network, containerId, ifname }: PodKey): string {
  return `${network}/${containerId}/${ifname}`;
}

/** Identifies this boot of the kernel. */
function currentBootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}

/**
 * The pod records: one file each below `STATE_DIR/pods`, named by the host-side veth, and `STATE_DIR/ipam.json`. A
 * record stands in its file before `put` returns. What an earlier boot left is forgotten: no pod outlives a boot.
 */
export class PodStore {
  private readonly directory: string;
  private readonly allocationFile: string;
  private readonly records = new Map<string, PodRecord>();
  private allocation: Allocation;

  constructor(stateDir: string, log: Log) {
    this.directory = join(stateDir, 'pods');
    this.allocationFile = join(stateDir, 'ipam.json');
    const bootId = currentBootId();
    const before = this.readAllocation();
    if (before?.bootId === bootId) {
      this.allocation = before;
    } else {
      rmSync(this.directory, { recursive: true, force: true });
      this.allocation = { bootId, last: {} };
    }
    mkdirSync(this.directory, { recursive: true, mode: 0o700 });
    writeDurably(this.allocationFile, JSON.stringify(this.allocation));
    this.load(log);
  }

  get(key: PodKey): PodRecord | undefined {
    return this.records.get(podKeyText(key));
  }

  list(): PodRecord[] {
    return [...this.records.values()];
  }

  put(record: PodRecord): void {
    writeDurably(this.fileOf(record), JSON.stringify(record));
    this.records.set(podKeyText(record), record);
  }

  remove(record: PodRecord): void {
    rmSync(this.fileOf(record), { force: true });
    this.records.delete(podKeyText(record));
  }

  lastAddress(family: string): string | undefined {
    return this.allocation.last[family];
  }

  /** Remembers which addresses were given out last. */
  setLast(last: Readonly<Record<string, string>>): void {
    this.allocation = { ...this.allocation, last: { ...this.allocation.last, ...last } };
    writeDurably(this.allocationFile, JSON.stringify(this.allocation));
  }

  private fileOf(record: PodRecord): string {
    return join(this.directory, `${record.hostVeth}.json`);
  }

  private readAllocation(): Allocation | undefined {
    try {
      return JSON.parse(readFileSync(this.allocationFile, 'utf8')) as Allocation;
    } catch {
      return undefined;
    }
  }

  private load(log: Log): void {
    for (const name of readdirSync(this.directory)) {
      const path = join(this.directory, name);
      if (!name.endsWith('.json')) {
        rmSync(path, { force: true }); // a write that a crash cut short
        continue;
      }
      try {
        const record = JSON.parse(readFileSync(path, 'utf8')) as PodRecord;
        this.records.set(podKeyText(record), record);
      } catch (error) {
        log.error({ file: path, error: describeError(error) }, 'unreadable pod record: skipped');
      }
    }
  }
}
