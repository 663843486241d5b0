// The service proxy: 100, 1,000 and 10,000 Services of 5 endpoints with both iptables variants, each in a network
// namespace of its own, the real `twill proxy` fed by an API server. The growth is printed side by side. A kube-proxy
// that is given does the same work, fed by the same server.
import { join } from 'node:path';
import { describeError } from '../../src/model/error.ts';
import { withNamespace } from '../lab/namespace.ts';
import type { Benchmark, BenchmarkOptions, Measurement } from './benchmark.ts';
import type { ProxyMeasurement } from './proxy-run.ts';
import { checkPeer } from './proxy-subject.ts';

const sizes = [100, 1000, 10_000];
const variants = ['nft', 'legacy'] as const;
type Variant = (typeof variants)[number];

interface Bar {
  readonly fullSyncMs: number;
  readonly changeMs: number;
  readonly peakMemoryMiB: number;
}

/** What is asked at 10,000 Services: milliseconds and MiB. */
const bars: Record<Variant, Bar> = {
  nft: { fullSyncMs: 3000, changeMs: 60, peakMemoryMiB: 250 },
  legacy: { fullSyncMs: 1000, changeMs: 250, peakMemoryMiB: 250 },
};

/** The middle of the values. */
function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)]!;
}

function row(cells: readonly (string | number)[]): string {
  return cells
    .map((cell, index) => (index === 0 ? String(cell).padEnd(34) : String(cell).padStart(10)))
    .join('');
}

function table(what: string, results: readonly ProxyMeasurement[], bar?: Partial<Bar>): string {
  const line = (name: string, of: (result: ProxyMeasurement) => number, limit?: number): string => {
    const values = results.map((result) => Math.round(of(result)));
    const verdict = limit === undefined ? '' : `≤ ${limit} ${values.at(-1)! <= limit ? 'held' : 'MISSED'}`;
    return row([name, ...values, `  ${verdict}`]);
  };
  return [
    row([what, ...results.map((result) => result.services)]),
    line('full sync, ms', (result) => result.fullSyncMs, bar?.fullSyncMs),
    line('process start to rules, ms', (result) => result.startToRulesMs),
    ...(results[0]?.restartMs === undefined
      ? []
      : [line('restart over right rules, ms', (result) => result.restartMs!)]),
    line('one endpoint changes, median ms', (result) => median(result.changeMs), bar?.changeMs),
    line('one endpoint changes, fastest ms', (result) => Math.min(...result.changeMs)),
    line('one endpoint changes, slowest ms', (result) => Math.max(...result.changeMs)),
    line('one Service comes or goes, median', (result) => median(result.serviceMs)),
    line('peak memory, MiB', (result) => result.peakMemoryMiB, bar?.peakMemoryMiB),
  ].join('\n');
}

async function measure(subject: string, variant: string, services: number): Promise<ProxyMeasurement> {
  const script = join(import.meta.dirname, 'proxy-run.js');
  return withNamespace('bench', async (namespace) => {
    const output = await namespace.exec(process.execPath, [script, variant, String(services), subject], {
      timeoutMs: 300_000,
    });
    return JSON.parse(output.trim().split('\n').at(-1)!) as ProxyMeasurement;
  });
}

function measurements(subject: string, result: ProxyMeasurement): Measurement[] {
  const { variant, services } = result;
  const bar = subject === 'twill' && services === 10_000 ? bars[variant as Variant] : undefined;
  const one = (what: string, value: number, unit: 'ms' | 'MiB', atMost?: number): Measurement => ({
    work: `${what}, ${services} Services of 5, iptables-${variant}`,
    subject,
    value,
    unit,
    ...(atMost === undefined ? {} : { atMost }),
  });
  return [
    one('full sync', result.fullSyncMs, 'ms', bar?.fullSyncMs),
    one('one endpoint changes', median(result.changeMs), 'ms', bar?.changeMs),
    one("the proxy's peak memory", result.peakMemoryMiB, 'MiB', bar?.peakMemoryMiB),
  ];
}

/** The peer at each size; a size it does not finish is named and left out, as are larger ones. */
async function measurePeer(
  path: string,
  variant: Variant,
  options: BenchmarkOptions,
): Promise<Measurement[]> {
  const results: ProxyMeasurement[] = [];
  for (const services of sizes) {
    try {
      results.push(await measure(path, variant, services));
    } catch (error) {
      options.progress(`kube-proxy, iptables-${variant}, ${services} Services: ${describeError(error)}`);
      if (results.length === 0) throw error;
      break;
    }
  }
  options.progress(table(`kube-proxy, iptables-${variant}:`, results));
  return results.flatMap((result) => measurements('kube-proxy', result));
}

export const benchmark: Benchmark = {
  name: 'proxy',
  run: async (options) => {
    const peer = options.peerKubeProxy;
    if (peer !== undefined) checkPeer(peer);
    const all: Measurement[] = [];
    for (const variant of variants) {
      const results: ProxyMeasurement[] = [];
      for (const services of sizes) results.push(await measure('twill', variant, services));
      options.progress(table(`iptables-${variant}, Services of 5:`, results, bars[variant]));
      all.push(...results.flatMap((result) => measurements('twill', result)));
      if (peer !== undefined) all.push(...(await measurePeer(peer, variant, options)));
    }
    return all;
  },
};
