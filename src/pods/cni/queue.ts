import { readdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { describeError } from '../../model/error.ts';
import { removeUnfinished } from '../../process/durable.ts';
import { unlinkIfPresent } from '../../process/files.ts';
import { type Log, LogLimiter } from '../../process/log.ts';
import { readRegularFile } from '../../process/regular-file.ts';
import { type CniAnswer, type CniCall, type CniFailure, cniErrors } from '../plan/protocol.ts';
import { queueDirectory } from './deletions.ts';

/** Failures that come again however often a call is repeated. */
const hopeless: readonly number[] = [
  cniErrors.incompatibleVersion,
  cniErrors.invalidEnvironment,
  cniErrors.decodeFailure,
  cniErrors.invalidConfig,
];

/** Ends the name of a file that is kept for people to look at, and not read again. */
const ASIDE = '.unreadable';

function isCall(value: unknown): value is CniCall {
  if (typeof value !== 'object' || value === null) return false;
  const { environment, input } = value as Partial<CniCall>;
  return typeof environment === 'object' && environment !== null && typeof input === 'string';
}

/** The call in the file's text, undefined where there is none. */
function parseCallFile(text: string): CniCall | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return isCall(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

/** The deletions that the executable queued while the agent was away. */
export class DeletionQueue {
  private readonly directory: string;
  private readonly handle: (call: CniCall) => Promise<CniAnswer>;
  private readonly log: Log;
  private readonly limiter = new LogLimiter();

  constructor(socketPath: string, handle: (call: CniCall) => Promise<CniAnswer>, log: Log) {
    this.directory = queueDirectory(socketPath);
    this.handle = handle;
    this.log = log;
  }

  /**
   * Carries them out. One that fails, or cannot be read now, stays queued and does not stop the others; one that is no
   * deletion, or a wrong one, is set aside under a name of its own. Never rejects.
   */
  async drain(): Promise<void> {
    const names = this.names();
    if (names.length > 0) this.log.info({ count: names.length }, 'carrying out queued CNI deletions');
    await Promise.all(
      names.map((name) =>
        this.drainFile(join(this.directory, name)).catch((error: unknown) =>
          this.tell(join(this.directory, name), error),
        ),
      ),
    );
  }

  /** Removes what executables left that were killed while they wrote. One that writes still begins anew. */
  sweep(): void {
    try {
      removeUnfinished(this.directory);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') this.tell(this.directory, error);
    }
  }

  private names(): string[] {
    try {
      return readdirSync(this.directory).filter((name) => name.endsWith('.json'));
    } catch (error) {
      // Without the directory nothing was ever queued.
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') this.tell(this.directory, error);
      return [];
    }
  }

  private tell(file: string, error: unknown): void {
    const reason = describeError(error);
    if (this.limiter.allow(`${file} ${reason}`) !== undefined)
      this.log.error({ file, error: reason }, 'queued deletions stay queued');
  }

  private async drainFile(path: string): Promise<void> {
    const call = parseCallFile(readRegularFile(path));
    if (call === undefined) return this.setAside(path, 'it is not a CNI call');
    const { status, output } = await this.handle(call);
    if (status === 0) {
      unlinkIfPresent(path);
      return;
    }
    const { code, msg } = JSON.parse(output) as CniFailure;
    // It would fail for ever.
    if (hopeless.includes(code)) this.setAside(path, msg);
  }

  private setAside(path: string, reason: string): void {
    const kept = `${path}${ASIDE}`;
    renameSync(path, kept);
    this.log.error({ file: kept, reason }, 'a queued deletion cannot be carried out: set aside');
  }
}
