import type { Registry } from 'prom-client';
import { version } from './version.ts';

/** The library, which is loaded when somebody asks for metrics. */
type Client = Pick<typeof import('prom-client'), 'Gauge' | 'collectDefaultMetrics'>;

/**
 * What every program of ours tells of itself: its build, and what Node and the kernel know of its process. Event loop lag
 * is looked at once a second: the library's own measure wakes an idle process a hundred times as often.
 */
export function describeProcess(client: Client, registry: Registry, program: 'agent' | 'proxy'): void {
  client.collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: 1000 });
  const build = { program, version, node: process.version, architecture: process.arch };
  new client.Gauge({
    name: 'twill_build_info',
    help: "The constant 1, labelled by this program's build.",
    labelNames: Object.keys(build),
    registers: [registry],
  }).set(build, 1);
}
