// One measurement, run inside a network namespace of its own by proxy.ts: an API server here, the proxy beside it.
import { run } from '../../src/kernel/process.ts';
import { type ApiObject, KubeApi } from '../lab/kube-api.ts';
import {
  benchNode,
  benchService,
  benchSlice,
  endpointsPerService,
  extraEndpoint,
  JUDGED,
} from '../lab/many-services.ts';
import type { RulesKind } from '../lab/service-lab.ts';
import { type Churn, churn } from './proxy-churn.ts';
import { KernelRules, pause } from './proxy-kernel.ts';
import { type Latencies, LatencyProbe } from './proxy-latency.ts';
import { Subject, type SubjectName } from './proxy-subject.ts';

export interface ProxyMeasurement {
  readonly variant: string;
  readonly services: number;
  /** From the start of the process until the rules stand. */
  readonly startToRulesMs: number;
  /** Within that: reading the kernel's rules, rendering and writing. */
  readonly fullSyncMs: number;
  /** From the API's event until the kernel has the rule: an endpoint comes, and goes. */
  readonly changeMs: readonly number[];
  /** The same for a Service that is created with its slice, and deleted. */
  readonly serviceMs: readonly number[];
  /** From the start until a second process found the standing rules right; Twill only. */
  readonly restartMs: number | undefined;
  readonly peakMemoryMiB: number;
  /** New connections' time to the first answer; at the judged size. */
  readonly latencies: Latencies | undefined;
  /** 1,000 changes a second; likewise, of Twill in mode nftables. */
  readonly churn: Churn | undefined;
}

const changes = 16;
const serviceChanges = 10;
/** Longer than the least interval between two syncs: what is measured is one change, not its queue. */
const SETTLE_MS = 150;

class Bench {
  private readonly api: KubeApi;
  private readonly kernel: KernelRules;
  private readonly services: number;

  constructor(api: KubeApi, kernel: KernelRules, services: number) {
    this.api = api;
    this.kernel = kernel;
    this.services = services;
  }

  /** Milliseconds until a change of the API is in the kernel, which has so many endpoints then. */
  private async change(act: () => void, endpoints: number): Promise<number> {
    do await pause(SETTLE_MS);
    while (!(await this.kernel.untouched(() => pause(SETTLE_MS))));
    return this.kernel.timed(act, endpoints);
  }

  async endpointChanges(): Promise<number[]> {
    const all = this.services * endpointsPerService;
    const times: number[] = [];
    for (let round = 0; round < changes; round++) {
      const index = Math.floor((this.services * ((round >> 1) + 1)) / (changes / 2 + 1));
      const slice = benchSlice(index, round % 2 === 0 ? [extraEndpoint] : []);
      times.push(await this.change(() => this.api.put(slice), all + ((round + 1) % 2)));
    }
    return times;
  }

  async serviceChanges(): Promise<number[]> {
    const all = this.services * endpointsPerService;
    const times: number[] = [];
    for (let round = 0; round < serviceChanges; round++) {
      const index = this.services + (round >> 1);
      const objects = [benchSlice(index), benchService(index)];
      const comes = round % 2 === 0;
      const act = (object: ApiObject): void => (comes ? this.api.put(object) : this.api.delete(object));
      times.push(await this.change(() => objects.forEach(act), all + (comes ? endpointsPerService : 0)));
    }
    return times;
  }
}

async function startApi(services: number): Promise<KubeApi> {
  const api = await KubeApi.start();
  api.put(benchNode);
  for (let index = 0; index < services; index++) {
    api.put(benchService(index));
    api.put(benchSlice(index));
  }
  return api;
}

/** Milliseconds until a second process of Twill is ready, having found the rules right. */
async function restart(api: KubeApi, variant: RulesKind, kernel: KernelRules): Promise<number> {
  const start = performance.now();
  const subject = new Subject('twill', api.url, variant);
  const untouched = await kernel.untouched(async () => {
    while (!(await subject.ready())) await pause(5);
  });
  const ms = performance.now() - start;
  // A new process of mode nftables removes chains that nobody leads to any more: those of the endpoint that came and went.
  if (!untouched && variant !== 'nftables') throw new Error('a restart wrote over rules that were right');
  await subject.end();
  return ms;
}

async function measure(name: SubjectName, variant: RulesKind, services: number): Promise<ProxyMeasurement> {
  const hint = variant === 'nftables' ? 'nft' : variant;
  for (const program of [`iptables-${hint}`, `ip6tables-${hint}`]) {
    await run(program, ['-t', 'mangle', '-N', 'KUBE-IPTABLES-HINT']);
    // Makes the tables exist.
    for (const table of ['nat', 'filter']) await run(program, ['-t', table, '-S', 'OUTPUT']);
  }
  const probe = services === JUDGED ? await LatencyProbe.start(services) : undefined;
  await probe?.withoutRules();
  const api = await startApi(services);
  const kernel = new KernelRules(variant);
  let subject: Subject | undefined;
  const startToRulesMs = await kernel.timed(
    () => {
      subject = new Subject(name, api.url, variant);
    },
    services * endpointsPerService,
    () => subject!.check(),
  );
  while (!(await kernel.untouched(() => pause(500))));
  const fullSyncMs = await subject!.fullSyncMs();
  const bench = new Bench(api, kernel, services);
  const changeMs = await bench.endpointChanges();
  const serviceMs = await bench.serviceChanges();
  const latencies = await probe?.measure();
  await probe?.end();
  const follows = services === JUDGED && name === 'twill' && variant === 'nftables';
  const followed = follows ? await churn(api, services) : undefined;
  const peakMemoryMiB = subject!.peakMemoryMiB();
  await subject!.end();
  const restartMs = name === 'twill' ? await restart(api, variant, kernel) : undefined;
  kernel.close();
  await api.stop();
  return {
    variant,
    services,
    startToRulesMs,
    fullSyncMs: fullSyncMs ?? startToRulesMs,
    changeMs,
    serviceMs,
    restartMs,
    peakMemoryMiB,
    latencies,
    churn: followed,
  };
}

const [variant, services, name] = process.argv.slice(2) as [RulesKind, string, SubjectName];
process.stdout.write(`${JSON.stringify(await measure(name, variant, Number(services)))}\n`);
