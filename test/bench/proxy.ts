// The service proxy: 100 to 30,000 Services of 5 endpoints with both iptables variants and nftables, each in a network
// namespace of its own, the real `twill proxy` fed by an API server. The growth is printed side by side. A kube-proxy
// that is given does the same work, fed by the same server.
import { join } from 'node:path';
import { describeError } from '../../src/model/error.ts';
import { JUDGED } from '../lab/many-services.ts';
import { withNamespace } from '../lab/namespace.ts';
import { kindName, type RulesKind, rulesKinds } from '../lab/service-lab.ts';
import type { Benchmark, BenchmarkOptions, Measurement } from './benchmark.ts';
import type { ProxyMeasurement } from './proxy-run.ts';
import { checkPeer } from './proxy-subject.ts';

const sizes = [100, 1000, 10_000, 30_000];

interface Bar {
  readonly fullSyncMs: number;
  readonly changeMs: number;
  readonly peakMemoryMiB: number;
}

/** Of 1,000 changes a second, milliseconds. */
const MOST_LAG_MS = 100;
/** What a Service adds to a new connection, at the median: tracking it costs more than that, and is there in any case. */
const MOST_ADDED_MS = 0.01;
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
    ...ofTraffic(result, one),
  ];
}

/** Of the size that is judged. */
function ofTraffic(
  { latencies, churn, variant }: ProxyMeasurement,
  one: (what: string, value: number, unit: 'ms' | 'MiB', atMost?: number) => Measurement,
): Measurement[] {
  const found: Measurement[] = [];
  if (latencies !== undefined) {
    const { noRules, noService, first, last } = latencies;
    for (const [name, of] of [
      ['without rules', noRules],
      ['to an endpoint itself', noService],
      ['through the first', first],
      ['through the last', last],
    ] as const) {
      found.push(one(`new connection ${name}, median`, of.medianUs / 1000, 'ms'));
      found.push(one(`new connection ${name}, 99th percentile`, of.p99Us / 1000, 'ms'));
    }
    const added = (Math.max(first.medianUs, last.medianUs) - noService.medianUs) / 1000;
    found.push(
      one('a Service adds, median', added, 'ms', variant === 'nftables' ? MOST_ADDED_MS : undefined),
    );
  }
  if (churn !== undefined) {
    found.push(one('lag of 1,000 changes a second, median', churn.medianMs, 'ms'));
    found.push(one('lag of 1,000 changes a second, 99th percentile', churn.p99Ms, 'ms'));
    found.push(one('lag of 1,000 changes a second, longest', churn.maxMs, 'ms', MOST_LAG_MS));
  }
  return found;
}

function trafficTable({ latencies, churn, variant }: ProxyMeasurement): string {
  const lines: string[] = [];
  if (latencies !== undefined) {
    const { noRules, noService, first, last } = latencies;
    const cell = ({ medianUs, p99Us }: typeof noRules): string =>
      `${medianUs.toFixed(1)}/${p99Us.toFixed(0)}`;
    lines.push(
      `new connection, median/99th µs: ${cell(noRules)} without rules, ${cell(noService)} to an endpoint itself, ` +
        `${cell(first)} through the first Service, ${cell(last)} through the last`,
    );
  }
  if (churn !== undefined)
    lines.push(
      `1,000 changes a second for ${churn.changes / 1000} s: lag ${churn.medianMs.toFixed(1)} ms at the median, ` +
        `${churn.p99Ms.toFixed(1)} at the 99th, ${churn.maxMs.toFixed(1)} at most (≤ ${MOST_LAG_MS})`,
    );
  return lines.map((line) => `${kindName(variant as RulesKind)}: ${line}`).join('\n');
}

/** The peer at each size; a size it does not finish is named and left out, as are larger ones. */
async function measurePeer(
  path: string,
  variant: RulesKind,
  options: BenchmarkOptions,
): Promise<Measurement[]> {
  const results: ProxyMeasurement[] = [];
  for (const services of sizes) {
    try {
      results.push(await measure(path, variant, services));
    } catch (error) {
      options.progress(`kube-proxy, ${kindName(variant)}, ${services} Services: ${describeError(error)}`);
      if (results.length === 0) throw error;
      break;
    }
  }
  options.progress(table(`kube-proxy, ${kindName(variant)}:`, results));
  options.progress(
    results
      .map(trafficTable)
      .filter((text) => text !== '')
      .join('\n'),
  );
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
      for (const services of sizes) results.push(await measure('twill', variant, services));
      options.progress(table(`${kindName(variant)}, Services of 5:`, results, bars[variant]));
      options.progress(
        results
          .map(trafficTable)
          .filter((text) => text !== '')
          .join('\n'),
      );
      all.push(...results.flatMap((result) => measurements('twill', result)));
      if (variant === 'nftables') all.push(growth(results));
      if (peer !== undefined) all.push(...(await measurePeer(peer, variant, options)));
    }
    return all;
  },
};
