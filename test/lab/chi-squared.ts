/** Whether counts are those of an even draw. */

/** Of a normal distribution: one in a hundred million is beyond it. Tests ask dozens of times. */
const ONE_IN_A_HUNDRED_MILLION = 5.612;

/** What the statistic of so many counts exceeds once in a hundred million times (Wilson and Hilferty's approximation). */
export function chiSquaredLimit(counts: number): number {
  const degrees = counts - 1;
  const part = 2 / (9 * degrees);
  return degrees * (1 - part + ONE_IN_A_HUNDRED_MILLION * Math.sqrt(part)) ** 3;
}

/** Pearson's statistic against an even distribution. */
export function chiSquared(counts: readonly number[]): number {
  const expected = counts.reduce((sum, count) => sum + count, 0) / counts.length;
  return counts.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
}
