// The service proxy: 100, 1,000 and 10,000 Services of 5 endpoints with both iptables variants and nftables, each in a network
// namespace of its own, the real `twill proxy` fed by an API server. The growth is printed side by side. A kube-proxy
// that is given does the same work, fed by the same server.
import { join } from 'node:path';
import { describeError } from '../../src/model/error.ts';
import { withNamespace } from '../lab/namespace.ts';
import { kindName, type RulesKind, rulesKinds } from '../lab/service-lab.ts';
import type { Benchmark, BenchmarkOptions, Measurement } from './benchmark.ts';
import type { ProxyMeasurement } from './proxy-run.ts';
import { checkPeer } from './proxy-subject.ts';

const sizes: Record<RulesKind, readonly number[]> = {
  nft: [100, 1000, 10_000],
  legacy: [100, 1000, 10_000],
  nftables: [100, 1000, 10_000, 30_000],
};

interface Bar {
  readonly fullSyncMs: number;
  readonly changeMs: number;
  readonly peakMemoryMiB: number;
}

/** At so many Services the bars hold. */
const JUDGED = 10_000;
/** A change costs at most so many times more with the most Services than with the fewest: nftables. */
const MOST_GROWTH = 1.5;

/** What is asked at 10,000 Services: milliseconds and MiB. */
const bars: Record<RulesKind, Bar> = {
  nft: { fullSyncMs: 3000, changeMs: 60, peakMemoryMiB: 250 },
  legacy: { fullSyncMs: 1000, changeMs: 250, peakMemoryMiB: 250 },
  nftables: { fullSyncMs: 1500, changeMs: 15, peakMemoryMiB: 250 },
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
    const values = results.map((result) => Number(of(result).toPrecision(3)));
    const judged = results.findIndex(({ services }) => services === JUDGED);
    const held = judged >= 0 && values[judged]! <= (limit ?? 0);
    const verdict = limit === undefined || judged < 0 ? '' : `≤ ${limit} ${held ? 'held' : 'MISSED'}`;
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
  const bar = subject === 'twill' && services === JUDGED ? bars[variant as RulesKind] : undefined;
  const one = (what: string, value: number, unit: 'ms' | 'MiB', atMost?: number): Measurement => ({
    work: `${what}, ${services} Services of 5, ${kindName(variant as RulesKind)}`,
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
  variant: RulesKind,
  options: BenchmarkOptions,
): Promise<Measurement[]> {
  const results: ProxyMeasurement[] = [];
  for (const services of sizes[variant]) {
    try {
      results.push(await measure(path, variant, services));
    } catch (error) {
      options.progress(`kube-proxy, ${kindName(variant)}, ${services} Services: ${describeError(error)}`);
      if (results.length === 0) throw error;
      break;
    }
  }
  options.progress(table(`kube-proxy, ${kindName(variant)}:`, results));
  return results.flatMap((result) => measurements('kube-proxy', result));
}

/** How much more a change costs with the most Services than with the fewest. */
function growth(results: readonly ProxyMeasurement[]): Measurement {
  const of = (result: ProxyMeasurement | undefined): number => median(result?.changeMs ?? []);
  const [first, last] = [results[0], results.at(-1)];
  return {
    work: `one endpoint changes, ${last?.services} Services against ${first?.services}, nftables: times`,
    subject: 'twill',
    value: of(last) / of(first),
    unit: 'count',
    atMost: MOST_GROWTH,
  };
}

export const benchmark: Benchmark = {
  name: 'proxy',
  run: async (options) => {
    const peer = options.peerKubeProxy;
    if (peer !== undefined) checkPeer(peer);
    const all: Measurement[] = [];
    for (const variant of rulesKinds) {
      const results: ProxyMeasurement[] = [];
      for (const services of sizes[variant]) results.push(await measure('twill', variant, services));
      options.progress(table(`${kindName(variant)}, Services of 5:`, results, bars[variant]));
      all.push(...results.flatMap((result) => measurements('twill', result)));
      if (variant === 'nftables') all.push(growth(results));
      if (peer !== undefined) all.push(...(await measurePeer(peer, variant, options)));
    }
    return all;
  },
};
