/** An exact share of all connections. Always in lowest terms, the denominator above zero. */
export interface Fraction {
  readonly n: bigint;
  readonly d: bigint;
}

export const whole: Fraction = { n: 1n, d: 1n };

function divisor(a: bigint, b: bigint): bigint {
  let [large, small] = [a, b];
  while (small !== 0n) [large, small] = [small, large % small];
  return large;
}

export function fraction(n: bigint | number, d: bigint | number): Fraction {
  const [above, below] = [BigInt(n), BigInt(d)];
  const common = divisor(above, below);
  return { n: above / common, d: below / common };
}

export function times(a: Fraction, b: Fraction): Fraction {
  if (a === whole) return b;
  if (b === whole) return a;
  return fraction(a.n * b.n, a.d * b.d);
}

export function plus(a: Fraction, b: Fraction): Fraction {
  return fraction(a.n * b.d + b.n * a.d, a.d * b.d);
}

/** What is left of the whole. */
export function rest({ n, d }: Fraction): Fraction {
  return fraction(d - n, d);
}

/** `1/3`; `1` for the whole. */
export function fractionText({ n, d }: Fraction): string {
  return d === 1n ? `${n}` : `${n}/${d}`;
}

/** Exact enough for people and for statistics. */
export function fractionNumber({ n, d }: Fraction): number {
  const scale = 1n << 50n;
  return Number((n * scale) / d) / Number(scale);
}
