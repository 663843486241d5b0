import { setImmediate as nextTurn } from 'node:timers/promises';
import { monotonicMs } from './clock.ts';

/** Short beside what an answer of an HTTP server, or a change, may wait. */
const SLICE_MS = 10;

/** Long work in slices, so that everything else in the process has its turn in between. */
export class Turns {
  private readonly sliceMs: number;
  private began = monotonicMs();

  constructor(sliceMs = SLICE_MS) {
    this.sliceMs = sliceMs;
  }

  /** True once the slice that is under way has taken its time: {@link next} is to be awaited. */
  get due(): boolean {
    return monotonicMs() - this.began >= this.sliceMs;
  }

  /** Resolves when others have had their turn. */
  async next(): Promise<void> {
    await nextTurn();
    this.began = monotonicMs();
  }
}
