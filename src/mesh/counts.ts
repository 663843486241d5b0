import { gotThrough, type Reply } from './plan/record.ts';
import { type MeshCounts, roundTripBounds } from './plan/state.ts';

/** How many questions there were by one path, and what became of them. */
export class Counts {
  private asked = 0;
  private lost = 0;
  private seconds = 0;
  private readonly buckets: number[] = [...roundTripBounds.map(() => 0), 0];

  note(reply: Reply): void {
    this.asked++;
    if (!gotThrough(reply)) this.lost++;
    if (reply.kind !== 'answered') return;
    const seconds = reply.micros / 1e6;
    this.seconds += seconds;
    const index = roundTripBounds.findIndex((bound) => seconds <= bound);
    this.buckets[index < 0 ? roundTripBounds.length : index]!++;
  }

  state(): MeshCounts {
    const { asked, lost, seconds, buckets } = this;
    return { asked, lost, seconds, buckets: [...buckets] };
  }
}
