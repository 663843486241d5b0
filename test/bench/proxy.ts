// The service proxy: 100, 1,000 and 10,000 Services of 5 endpoints with both iptables variants, each in a network
// namespace of its own, the real `twill proxy` fed by an API server. The growth is printed side by side.
import { join } from 'node:path';
import { withNamespace } from '../lab/namespace.ts';
import type { Benchmark, Measurement } from './benchmark.ts';
import type { ProxyMeasurement } from './proxy-run.ts';

const sizes = [100, 1000, 10_000];
const variants = ['nft', 'legacy'] as const;

/** What is asked at 10,000 Services: milliseconds and MiB. */
const bars = {
  nft: { fullSyncMs: 3000, changeMs: 60, peakMemoryMiB: 250 },
  legacy: { fullSyncMs: 1000, changeMs: 250, peakMemoryMiB: 250 },
} as const;

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

function table(variant: (typeof variants)[number], results: readonly ProxyMeasurement[]): string {
  const bar = bars[variant];
  const line = (what: string, of: (result: ProxyMeasurement) => number, limit?: number): string => {
    const values = results.map((result) => Math.round(of(result)));
    const verdict = limit === undefined ? '' : `≤ ${limit} ${values.at(-1)! <= limit ? 'held' : 'MISSED'}`;
    return row([what, ...values, `  ${verdict}`]);
  };
  return [
    row([`iptables-${variant}, Services of 5:`, ...results.map((result) => result.services)]),
    line('full sync, ms', (result) => result.fullSyncMs, bar.fullSyncMs),
    line('process start to rules, ms', (result) => result.startToRulesMs),
    line('restart over right rules, ms', (result) => result.restartMs),
    line('one endpoint changes, median ms', (result) => median(result.changeMs), bar.changeMs),
    line('one endpoint changes, fastest ms', (result) => Math.min(...result.changeMs)),
    line('one endpoint changes, slowest ms', (result) => Math.max(...result.changeMs)),
    line('one Service comes or goes, median', (result) => median(result.serviceMs)),
    line('bytes written for one endpoint', (result) => result.changeBytes),
    line('peak memory, MiB', (result) => result.peakMemoryMiB, bar.peakMemoryMiB),
  ].join('\n');
}

async function measure(variant: string, services: number): Promise<ProxyMeasurement> {
  const script = join(import.meta.dirname, 'proxy-run.js');
  return withNamespace('bench', async (namespace) => {
    const output = await namespace.exec(process.execPath, [script, variant, String(services)], {
      timeoutMs: 300_000,
    });
    return JSON.parse(output.trim().split('\n').at(-1)!) as ProxyMeasurement;
  });
}

function measurements(result: ProxyMeasurement): Measurement[] {
  const { variant, services } = result;
  const bar = services === 10_000 ? bars[variant as keyof typeof bars] : undefined;
  const one = (what: string, value: number, unit: 'ms' | 'MiB', atMost?: number): Measurement => ({
    work: `${what}, ${services} Services of 5, iptables-${variant}`,
    subject: 'twill',
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

export const benchmark: Benchmark = {
  name: 'proxy',
  run: async ({ progress }) => {
    const all: Measurement[] = [];
    for (const variant of variants) {
      const results: ProxyMeasurement[] = [];
      for (const services of sizes) results.push(await measure(variant, services));
      progress(table(variant, results));
      all.push(...results.flatMap(measurements));
    }
    return all;
  },
};
