import {
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { tryParseAddress } from '../model/address.ts';
import { describeError, TwillError } from '../model/error.ts';
import { removeUnfinished, replaceFile } from '../process/durable.ts';
import { fileError, readFileIfPresent, removeTree, unlinkIfPresent } from '../process/files.ts';
import type { Log } from '../process/log.ts';
import { readRegularFile } from '../process/regular-file.ts';
import type { PodKey, PodRecord } from './plan/pod.ts';
import { readRecord } from './plan/read-record.ts';

const { O_CREAT, O_NOFOLLOW, O_WRONLY } = constants;
/** Ends the name of a record whose ADD is under way. */
const BEGUN = '.begun';
/** Bytes of the file of the addresses given out last: room for one of each family. */
const LAST_SIZE = 128;

/**
 * The version of the files of records. A new one may add fields, and nothing else, so that an earlier agent, after a
 * downgrade, knows the pods that a later one made; files from before it was said have none.
 */
const RECORD_VERSION = 1;

const recordText = (record: PodRecord): string => JSON.stringify({ version: RECORD_VERSION, ...record });

/** The address given out last, by family name. */
type LastAddresses = Readonly<Record<string, string>>;

export function podKeyText({ network, containerId, ifname }: PodKey): string {
  return `${network}/${containerId}/${ifname}`;
}

/** Identifies this boot of the kernel. */
function currentBootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}

/** @throws TwillError `unavailable`: the runtime tries again, and there may be room by then */
function write(path: string, text: string): void {
  try {
    replaceFile(path, text, { mode: 0o600 });
  } catch (cause) {
    throw new TwillError('unavailable', fileError(path, cause).message, cause);
  }
}

/**
 * The boot that the records are of; undefined where there are none.
 * @throws TwillError `unavailable` when it cannot be told: records of this boot must not be taken for older ones
 */
function bootOf(file: string): string | undefined {
  try {
    return readRegularFile(file);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new TwillError('unavailable', `cannot tell of which boot the pod records are: '${file}'`, cause);
  }
}

/** The file may be whole: it is the process, or the disk, that has not got what reading takes. */
function isPassing(error: unknown): boolean {
  const { code = '' } = error as NodeJS.ErrnoException;
  return ['EMFILE', 'ENFILE', 'ENOMEM', 'EAGAIN', 'EIO'].includes(code);
}

/**
 * The pod records: one file each below `STATE_DIR/pods`, named by the host-side veth. A record stands in its file before
 * `commit` returns, and in one of another name from before its first device is made. What an earlier boot left is forgotten: no pod outlives a boot. So nothing here needs the disk's own
 * durability: only a crash of the agent must lose nothing.
 */
export class PodStore {
  private readonly directory: string;
  private readonly bootFile: string;
  private readonly lastFile: string;
  private readonly records = new Map<string, PodRecord>();
  private last: LastAddresses;
  private readonly log: Log;
  private order = 0;

  constructor(stateDir: string, log: Log) {
    this.log = log;
    this.directory = join(stateDir, 'pods');
    this.lastFile = join(this.directory, 'last-addresses');
    this.bootFile = join(this.directory, 'boot-id');
    const bootId = currentBootId();
    if (bootOf(this.bootFile) !== bootId) {
      removeTree(this.directory);
      mkdirSync(this.directory, { recursive: true, mode: 0o700 });
      write(this.bootFile, bootId);
    }
    this.last = this.readLast();
    this.load(log);
  }

  get(key: PodKey): PodRecord | undefined {
    return this.records.get(podKeyText(key));
  }

  list(): PodRecord[] {
    return [...this.records.values()];
  }

  /** Writes down what is about to be made, before any of it is: whoever dies then leaves word of what to remove. */
  begin(record: PodRecord): void {
    this.write(this.fileOf(record, BEGUN), recordText(record));
  }

  /** What was begun stands now. Needs no room on the disk, but where somebody has taken away what {@link begin} wrote. */
  commit(record: PodRecord): void {
    try {
      renameSync(this.fileOf(record, BEGUN), this.fileOf(record));
    } catch {
      this.write(this.fileOf(record), recordText(record));
    }
    this.records.set(podKeyText(record), record);
  }

  /** Takes up one that stands already. It is known even where there is no room to write it down. */
  adopt(record: PodRecord): void {
    this.records.set(podKeyText(record), record);
    try {
      this.write(this.fileOf(record), recordText(record));
    } catch (error) {
      this.log.warn({ error: describeError(error) }, 'an adopted pod is not written down');
    }
  }

  /** The one that was found standing under any network's name: whoever made it had a configuration of its own. */
  getAdopted({ containerId, ifname }: PodKey): PodRecord | undefined {
    return this.list().find(
      (record) => record.adopted === true && record.containerId === containerId && record.ifname === ifname,
    );
  }

  /** Host-side veths of attachments that were begun by a process that died. */
  unfinished(): string[] {
    const names = new Set(readdirSync(this.directory));
    return [...names]
      .filter((name) => name.endsWith(BEGUN))
      .map((name) => name.slice(0, -BEGUN.length))
      .filter((veth) => !names.has(`${veth}.json`));
  }

  /** To be called when nothing of it is left. */
  removeUnfinished(hostVeth: string): void {
    unlinkIfPresent(join(this.directory, `${hostVeth}${BEGUN}`));
  }

  /**
   * Forgets one of which nothing is left. A file that cannot be removed keeps no pod from being deleted: what a later start
   * reads of it is gone by then, and forgotten again.
   */
  remove(record: PodRecord): void {
    this.records.delete(podKeyText(record));
    for (const file of [this.fileOf(record), this.fileOf(record, BEGUN)]) {
      try {
        unlinkIfPresent(file);
      } catch (error) {
        this.log.warn({ file, error: describeError(error) }, 'the record of a deleted pod is not removed');
      }
    }
  }

  /** A number higher than that of all attachments that stand, over restarts, too. */
  nextOrder(): number {
    return ++this.order;
  }

  lastAddress(family: string): string | undefined {
    return this.last[family];
  }

  /**
   * Remembers which addresses were given out last. Written in place: a torn file only forgets where the round is, as one
   * does that cannot be written. Not emptied first, which would cost half a millisecond on a disk.
   */
  setLast(last: LastAddresses): void {
    this.last = { ...this.last, ...last };
    try {
      const file = openSync(this.lastFile, O_WRONLY | O_CREAT | O_NOFOLLOW, 0o600);
      try {
        writeSync(file, JSON.stringify(this.last).padEnd(LAST_SIZE), 0);
      } finally {
        closeSync(file);
      }
    } catch (error) {
      this.log.debug({ file: this.lastFile, error: describeError(error) }, 'the last address is not kept');
    }
  }

  private fileOf(record: PodRecord, ending = '.json'): string {
    return join(this.directory, `${record.hostVeth}${ending}`);
  }

  private readLast(): LastAddresses {
    try {
      const read: unknown = JSON.parse(readFileIfPresent(this.lastFile) ?? '{}');
      const known = Object.entries(read ?? {}).filter(([, text]) => tryParseAddress(text) !== undefined);
      return Object.fromEntries(known) as LastAddresses;
    } catch {
      return {};
    }
  }

  /** Somebody may have taken the directory away: it is made again then, with all that is known. */
  private write(path: string, text: string): void {
    if (!existsSync(this.directory)) {
      this.log.warn({ directory: this.directory }, 'the folder of the pod records is gone: made again');
      mkdirSync(this.directory, { recursive: true, mode: 0o700 });
      write(this.bootFile, currentBootId());
      for (const record of this.list()) write(this.fileOf(record), recordText(record));
    }
    write(path, text);
  }

  private load(log: Log): void {
    removeUnfinished(this.directory);
    for (const name of readdirSync(this.directory)) {
      const path = join(this.directory, name);
      if (!name.endsWith('.json')) continue;
      try {
        const { version, ...record } = readRecord(readRegularFile(path));
        // Under another name it would never be removed.
        if (name !== `${record.hostVeth}.json`)
          throw new TwillError('invalid', `it is of ${record.hostVeth}, as its name is not`);
        if (version !== undefined && version > RECORD_VERSION)
          log.info(
            { file: path, version },
            'a later version of Twill made this pod: what is known of it is used',
          );
        this.order = Math.max(this.order, record.order);
        this.records.set(podKeyText(record), record);
      } catch (error) {
        // To go on without a pod's record would be to give its address to another.
        if (isPassing(error))
          throw new TwillError('unavailable', `cannot read the pod record '${path}' now`, error);
        log.error({ file: path, error: describeError(error) }, 'unreadable pod record: skipped');
      }
    }
  }
}
