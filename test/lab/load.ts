import { setTimeout as sleep } from 'node:timers/promises';
import type { Place } from './place.ts';
import type { Target } from './probe-protocol.ts';

export interface LoadFailure {
  /** When the connection was begun, as `Date.now()` has it. */
  readonly began: number;
  readonly reason: string;
}

export interface LoadResult {
  readonly answered: number;
  readonly failures: readonly LoadFailure[];
  /** Who answered, with how many. */
  readonly servers: ReadonlyMap<string, number>;
}

/** Opens a new connection every `intervalMs`, whatever became of those before, until it is ended. */
export class Load {
  private readonly from: Place;
  private readonly target: Target;
  private readonly failures: LoadFailure[] = [];
  private readonly servers = new Map<string, number>();
  private readonly pending = new Set<Promise<void>>();
  private stopped = false;
  private readonly running: Promise<void>;

  constructor(from: Place, target: Target, intervalMs = 10) {
    this.from = from;
    this.target = { timeoutMs: 8000, ...target };
    this.running = this.run(intervalMs);
  }

  get answered(): number {
    let count = 0;
    for (const answers of this.servers.values()) count += answers;
    return count;
  }

  async end(): Promise<LoadResult> {
    this.stopped = true;
    await this.running;
    await Promise.all(this.pending);
    return { answered: this.answered, failures: this.failures, servers: this.servers };
  }

  private async run(intervalMs: number): Promise<void> {
    while (!this.stopped) {
      const one = this.ask();
      this.pending.add(one);
      void one.then(() => this.pending.delete(one));
      await sleep(intervalMs);
    }
  }

  private async ask(): Promise<void> {
    const began = Date.now();
    try {
      const { server } = await this.from.probe.ask(this.target);
      this.servers.set(server, (this.servers.get(server) ?? 0) + 1);
    } catch (error) {
      this.failures.push({ began, reason: (error as Error).message });
    }
  }
}

/** What waits for a condition, with the logs of all that runs where it does not come. */
interface Waiting {
  readonly lab: { waitFor(what: string, condition: () => boolean): Promise<unknown> };
}

/** Resolves when it has had so many answers more. */
export async function afterMore({ lab }: Waiting, load: Load, count: number): Promise<void> {
  const goal = load.answered + count;
  await lab.waitFor(`${count} more answers`, () => load.answered >= goal);
}
