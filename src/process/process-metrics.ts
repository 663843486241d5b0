import { readFileSync } from 'node:fs';
import type { Registry } from 'prom-client';
import { version } from './version.ts';

/** The library, which is loaded when somebody asks for metrics. */
type Client = Pick<typeof import('prom-client'), 'Counter' | 'Gauge' | 'collectDefaultMetrics'>;

/** Go's word for no limit. */
const UNLIMITED = 2 ** 64;

/** The most memory that the process may map, from the text of /proc/self/limits. */
export function virtualMemoryLimit(limits: string): number {
  const [, soft] = /^Max address space +(\S+)/m.exec(limits) ?? [];
  return soft === undefined || soft === 'unlimited' ? UNLIMITED : Number(soft);
}

/** Bytes that went through the network namespace, from the text of /proc/self/net/netstat; 0 where there is no word of it. */
export function networkBytes(netstat: string, which: 'InOctets' | 'OutOctets'): number {
  const [names, values] = netstat
    .split('\n')
    .filter((line) => line.startsWith('IpExt: '))
    .map((line) => line.split(' '));
  return Number(values?.[names?.indexOf(which) ?? -1] ?? 0);
}

/** What Go's client library tells of a process and Node's does not. */
function describeLimitsAndNetwork({ Counter, Gauge }: Client, registry: Registry): void {
  const registers = [registry];
  const read = (name: string): string => readFileSync(`/proc/self/${name}`, 'utf8');
  new Gauge({
    name: 'process_virtual_memory_max_bytes',
    help: 'Maximum amount of virtual memory available in bytes.',
    registers,
    collect() {
      this.set(virtualMemoryLimit(read('limits')));
    },
  });
  for (const [name, which, word] of [
    ['receive', 'InOctets', 'received'],
    ['transmit', 'OutOctets', 'sent'],
  ] as const)
    new Counter({
      name: `process_network_${name}_bytes_total`,
      help: `Number of bytes ${word} over the network by all that share the network namespace.`,
      registers,
      collect() {
        this.reset();
        this.inc(networkBytes(read('net/netstat'), which));
      },
    });
}

/**
 * What every program of ours tells of itself: its build, and what Node and the kernel know of its process. Event loop lag
 * is looked at once a second: the library's own measure wakes an idle process a hundred times as often.
 */
export function describeProcess(client: Client, registry: Registry, program: 'agent' | 'proxy'): void {
  client.collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: 1000 });
  describeLimitsAndNetwork(client, registry);
  const build = { program, version, node: process.version, architecture: process.arch };
  new client.Gauge({
    name: 'twill_build_info',
    help: "The constant 1, labelled by this program's build.",
    labelNames: Object.keys(build),
    registers: [registry],
  }).set(build, 1);
}
