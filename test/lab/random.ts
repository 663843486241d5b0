/** Numbers from 0 up to 1 that follow from the seed, so that a failure can be repeated (mulberry32). */
export function seededFractions(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** The same as whole numbers from 0 up to what is asked for. */
export function seeded(seed: number): (below: number) => number {
  const next = seededFractions(seed);
  return (below) => Math.floor(next() * below);
}
