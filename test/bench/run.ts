// Runs the benchmarks: all of them, or those named. NAME.ts in this folder exports one as `benchmark`; NAME-….ts are
// parts of it.
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { formatTable } from '../../src/inspect/table.ts';
import { describeError } from '../../src/model/error.ts';
import { guardThisProcess } from '../lab/guard.ts';
import type { Benchmark, BenchmarkOptions, Measurement } from './benchmark.ts';

const usage = `npm run bench [-- OPTIONS] [NAME…]

  NAME is overlay, proxy, cni, throughput; or, only when it is named, inspect (the inspection commands at scale) or
  soak (an hour's churn in minutes)

  --peer-flanneld PATH     do the same work with this flanneld
  --peer-kube-proxy PATH   … with this kube-proxy
  --peer-cni-dir DIR       … with the flannel, bridge, host-local and portmap plugins in this folder
  --json FILE              where the figures go as JSON (default bench.json)
`;

type Row = Measurement & { readonly benchmark: string };

async function findBenchmarks(names: readonly string[]): Promise<Benchmark[]> {
  const found: Benchmark[] = [];
  for (const file of readdirSync(import.meta.dirname).sort()) {
    if (!/^[a-z]+\.js$/.test(file) || file === 'run.js') continue;
    const { benchmark } = (await import(join(import.meta.dirname, file))) as { benchmark?: Benchmark };
    if (benchmark !== undefined) found.push(benchmark);
  }
  const unknown = names.filter((name) => !found.some((benchmark) => benchmark.name === name));
  if (unknown.length > 0)
    throw new Error(
      `no benchmark ${unknown.join(', ')}; there are ${found.map(({ name }) => name).join(', ')}`,
    );
  return found.filter(({ name, onlyNamed }) =>
    names.length === 0 ? onlyNamed !== true : names.includes(name),
  );
}

function asked({ atMost, atLeast }: Measurement): string {
  if (atMost !== undefined) return `≤ ${round(atMost)}`;
  return atLeast === undefined ? '' : `≥ ${round(atLeast)}`;
}

function verdict({
  value,
  atMost = Number.POSITIVE_INFINITY,
  atLeast = Number.NEGATIVE_INFINITY,
}: Measurement): string {
  return value <= atMost && value >= atLeast ? '' : 'MISSED';
}

function round(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toFixed(value >= 10 ? 1 : 2);
}

/** How many times the peer's figure Twill's is, or the other way round where more is better. */
function ratio(twill: Measurement, peer: Measurement): string {
  const better = twill.unit === 'Mbit/s' ? twill.value / peer.value : peer.value / twill.value;
  return `${peer.subject} ${round(peer.value)}: ${better.toFixed(2)} ×`;
}

/** One line per work: Twill's figure, what is asked of it, and the peers' beside it. */
function table(rows: readonly Row[]): string {
  const own = rows.filter((row) => row.subject === 'twill');
  const lines = own.map((row) => {
    const peers = rows.filter(
      (other) => other !== row && other.work === row.work && other.subject !== 'twill',
    );
    const beside = peers.map((peer) => ratio(row, peer)).join(', ');
    return [row.benchmark, row.work, `${round(row.value)} ${row.unit}`, asked(row), verdict(row), beside];
  });
  return formatTable(['benchmark', 'work', 'twill', 'asked', '', 'peer: times better'], lines);
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      'peer-flanneld': { type: 'string' },
      'peer-kube-proxy': { type: 'string' },
      'peer-cni-dir': { type: 'string' },
      json: { type: 'string', default: 'bench.json' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(usage);
    return;
  }
  const options: BenchmarkOptions = {
    ...(values['peer-flanneld'] === undefined ? {} : { peerFlanneld: values['peer-flanneld'] }),
    ...(values['peer-kube-proxy'] === undefined ? {} : { peerKubeProxy: values['peer-kube-proxy'] }),
    ...(values['peer-cni-dir'] === undefined ? {} : { peerCniDir: values['peer-cni-dir'] }),
    progress: (line) => process.stderr.write(`${line}\n`),
  };
  const guard = await guardThisProcess();
  const rows: Row[] = [];
  for (const { name, run } of await findBenchmarks(positionals)) {
    options.progress(`benchmark ${name}`);
    try {
      rows.push(...(await run(options)).map((measurement) => ({ benchmark: name, ...measurement })));
    } catch (error) {
      process.stderr.write(`benchmark ${name} failed: ${describeError(error)}\n`);
      process.exitCode = 1;
    }
  }
  await guard.close();
  writeFileSync(values.json, `${JSON.stringify(rows, undefined, 2)}\n`);
  process.stdout.write(`${table(rows)}`);
}

try {
  await main();
} catch (error) {
  process.stderr.write(`${describeError(error)}\n`);
  process.exitCode = 1;
}
