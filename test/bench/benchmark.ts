/** What every benchmark module exports, as `benchmark`; the dispatcher finds the modules by that. */
export interface Benchmark {
  readonly name: string;
  /** True where it takes minutes: it runs when it is named. */
  readonly onlyNamed?: boolean;
  /** Does the work with Twill and, where `options` names a peer's program, with that too. */
  readonly run: (options: BenchmarkOptions) => Promise<readonly Measurement[]>;
}

export interface BenchmarkOptions {
  /** A flanneld executable. */
  readonly peerFlanneld?: string;
  /** A kube-proxy executable. */
  readonly peerKubeProxy?: string;
  /** A folder with the flannel, bridge, host-local and portmap plugins. */
  readonly peerCniDir?: string;
  /** Tells the user what is being done. */
  readonly progress: (line: string) => void;
}

export interface Measurement {
  /** The same for Twill and the peer: what was done, and how much of it. */
  readonly work: string;
  /** `twill`, or the peer's name. */
  readonly subject: string;
  readonly value: number;
  readonly unit: 'ms' | 'MiB' | 'Mbit/s' | 'count';
  /** What is asked of Twill. */
  readonly atMost?: number;
  readonly atLeast?: number;
}
