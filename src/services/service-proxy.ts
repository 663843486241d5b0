import { setTimeout as sleep } from 'node:timers/promises';
import type { Family } from '../model/address.ts';
import type { Check } from '../model/health.ts';
import { monotonicMs } from '../process/clock.ts';
import type { Log } from '../process/log.ts';
import { ReconcileLoop } from '../process/loop.ts';
import type { ProxyConfig } from './config.ts';
import type { SyncResult } from './family-rules.ts';
import { HealthPorts, listenHosts } from './health-ports.ts';
import { ProxyInput } from './input.ts';
import type { ProxyMetrics } from './metrics.ts';
import { RulesHealth } from './plan/health.ts';
import type { NodeFacts } from './plan/service.ts';
import { localReadyCounts, type NodeView } from './plan/table.ts';
import type { DirtyServices, ServiceState, ServiceTracker } from './plan/tracker.ts';
import type { ServedFamily } from './served-family.ts';
import type { ServiceSource } from './sources/source.ts';
import { RulesWatches } from './watches.ts';

export interface ServiceProxyOptions {
  readonly config: ProxyConfig;
  readonly log: Log;
  readonly source: ServiceSource;
  readonly families: readonly ServedFamily[];
  readonly metrics: ProxyMetrics;
  /** Names another proxy that runs on this node. */
  readonly findOther: () => string | undefined;
}

/** Of a Service without a health check port, which nobody asks for. */
const noCounts: ReadonlyMap<Family, number> = new Map();

type States = readonly (readonly [key: string, state: ServiceState])[];

/** Binds sources, tracker and rules: one loop that writes what changed. */
export class ServiceProxy {
  readonly metrics: ProxyMetrics;
  readonly loop: ReconcileLoop;
  private readonly options: ServiceProxyOptions;
  private readonly log: Log;
  private readonly input: ProxyInput;
  private readonly healthPorts: HealthPorts;
  private readonly health: RulesHealth;
  private readonly watches: RulesWatches;
  private lastFull = Number.NEGATIVE_INFINITY;
  private fullWanted = false;
  private reconfigure = false;
  /** What others have left that could not be removed, with the reasons. */
  leftovers: readonly string[] = [];
  private writing = false;

  constructor(options: ServiceProxyOptions) {
    const { config, log, families } = options;
    this.options = options;
    this.log = log;
    this.metrics = options.metrics;
    this.input = new ProxyInput({
      nodeName: config.nodeName,
      bindAddress: config.bindAddress,
      log,
      needs: [
        ...(config.nodePortAddresses === 'primary' ? (['addresses'] as const) : []),
        ...(config.localDetection.kind === 'node' ? (['podCIDRs'] as const) : []),
      ],
      onChange: (reason) => this.changed(reason),
      onNode: () => {
        this.reconfigure = true;
      },
      onSkipped: () => this.metrics.skipped.inc(),
    });
    this.healthPorts = new HealthPorts(() => this.healthy, log);
    this.health = new RulesHealth(
      families.map(({ rules }) => rules.family.kubeName),
      config.healthTimeoutMs,
    );
    this.watches = new RulesWatches({
      families,
      log,
      findOther: options.findOther,
      busy: () => this.writing || !this.ready,
      repair: (broken) => {
        this.fullWanted = true;
        if (broken) this.rulesQueued();
        this.loop.trigger('rules were changed by others', broken);
      },
    });
    this.loop = new ReconcileLoop({
      name: 'proxy-rules',
      log,
      work: () => this.sync(),
      resyncMs: config.resyncMs,
      minIntervalMs: config.minSyncMs,
    });
  }

  async start(): Promise<void> {
    await this.options.source.start(this.input);
    this.watches.start();
  }

  async stop(): Promise<void> {
    this.watches.stop();
    this.healthPorts.stop();
    this.input.stop();
    await this.options.source.stop();
    await this.loop.stop();
    await Promise.all(this.options.families.map(({ flows }) => flows.stop()));
  }

  /** True once rules of a full list stand and the last sync did not fail. */
  get ready(): boolean {
    const { lastSuccess, consecutiveFailures } = this.loop.status();
    return lastSuccess !== undefined && consecutiveFailures === 0;
  }

  /** How often rules were put right though no Service had changed. */
  get repairs(): number {
    return this.watches.repairs;
  }

  /** The families that are served. */
  get families(): readonly ServedFamily[] {
    return this.options.families;
  }

  /** All Services. */
  get tracker(): ServiceTracker {
    return this.input.tracker;
  }

  /** This node, as the rules see it. */
  get view(): NodeView {
    return this.input.view;
  }

  /** Where Services come from, for people. */
  get source(): string {
    return this.options.source.description;
  }

  /** Reads the kernel's rules and puts them right. @returns whether that was done within the time */
  async repairNow(waitMs: number): Promise<boolean> {
    const done = this.loop.settled().then(() => true);
    this.fullWanted = true;
    this.loop.trigger('asked for by an operator', true);
    return Promise.race([done, sleep(waitMs, false, { ref: false })]);
  }

  /** What the first rules wait for, in words; undefined when it is there. */
  get waitingFor(): string | undefined {
    return this.input.waitingFor;
  }

  /** No change waits for too long to get into the rules, and writing them does not hang. */
  get healthy(): boolean {
    if (this.loop.status().stuckMs > this.options.config.healthTimeoutMs) return false;
    return [...this.familyHealth().values()].every(({ healthy }) => healthy);
  }

  /** By the families' names. */
  familyHealth(): ReturnType<RulesHealth['status']> {
    return this.health.status(monotonicMs());
  }

  /** False when the node is about to go, or there is none of its name: load balancers should send it nothing new. */
  get nodeEligible(): boolean {
    const known = this.options.config.manifests !== undefined || !this.input.nodeMissing;
    return known && this.input.facts?.leaving !== true;
  }

  /** What somebody should look at, though rules stand. */
  warnings(): Check[] {
    const unreadable = this.options.families
      .flatMap(({ rules }) => rules.unreadable)
      .concat(this.leftovers)
      .map((detail): Check => ({ name: 'rules', state: 'warning', detail }));
    const problem = this.options.config.manifests === undefined ? this.input.nodeProblem : undefined;
    const node: Check[] = problem === undefined ? [] : [{ name: 'node', state: 'warning', detail: problem }];
    return [...node, ...unreadable, ...this.watches.warnings()];
  }

  /** The node's addresses changed: rules that name them are made anew. */
  nodeChanged(): void {
    this.reconfigure = true;
    if (this.loop.status().runs === 0) return;
    this.rulesQueued();
    this.loop.trigger('addresses of the node');
  }

  /** Brings gauges up to date that are costly to keep so; called when metrics are read. */
  updateGauges(): void {
    const served = this.options.families.map(({ rules }) => rules.family.kubeName);
    this.metrics.setPending(this.input.tracker.pending, served);
    for (const { rules } of this.options.families) {
      const ip_family = rules.family.kubeName;
      this.metrics.counted(rules);
      for (const [traffic_policy, count] of Object.entries(rules.withoutLocalEndpoints)) {
        this.metrics.noLocalEndpoints.set({ ip_family, traffic_policy }, count);
      }
    }
  }

  private changed(reason: string): void {
    for (const { rules } of this.options.families) this.metrics.queued(rules.family);
    this.rulesQueued();
    this.loop.trigger(reason);
  }

  private rulesQueued(families: readonly ServedFamily[] = this.options.families): void {
    for (const { rules } of families) this.health.queued(rules.family.kubeName, monotonicMs());
  }

  private rulesWritten(family: ServedFamily): void {
    const { serviceChanges, endpointChanges } = this.input.tracker.pending;
    this.health.written(
      family.rules.family.kubeName,
      monotonicMs(),
      serviceChanges + (endpointChanges[family.rules.family.kubeName] ?? 0) > 0,
    );
  }

  private async sync(): Promise<void> {
    const now = monotonicMs();
    const { tracker, facts, view } = this.input;
    const full = this.fullWanted || now - this.lastFull >= this.options.config.resyncMs;
    // What throws here is wanted still.
    if (full || this.reconfigure) this.configure(facts);
    this.fullWanted = false;
    this.reconfigure = false;
    const dirty = tracker.takeDirty();
    for (const { rules } of this.options.families) this.metrics.seen(rules.family, dirty);
    // What a failed sync had taken is in the rules' desired state already: only writing it is repeated.
    const states: States = [...dirty.keys].map((key) => [key, tracker.state(key)] as const);
    this.healthPorts.update(
      states.map(([service, state]) => {
        const port = state.service?.healthCheckNodePort ?? 0;
        return { service, port, counts: port === 0 ? noCounts : localReadyCounts(state, view) };
      }),
    );
    this.writing = true;
    const errors = await this.syncFamilies(states, dirty, full).finally(() => {
      this.writing = false;
    });
    if (errors.length > 0) {
      this.fullWanted = true;
      throw errors[0];
    }
    if (full) this.lastFull = now;
  }

  /** Takes up what depends on the node's addresses and its Node object. */
  private configure(facts: NodeFacts | undefined): void {
    const { families } = this.options;
    for (const { configure } of families) for (const key of configure(facts)) this.input.tracker.touch(key);
    this.healthPorts.listenOn(
      listenHosts(
        families.map(({ rules: { family }, nodePortAddresses }) => ({
          family,
          addresses: nodePortAddresses(facts),
        })),
      ),
    );
  }

  /** @returns why families could not be written */
  private async syncFamilies(states: States, dirty: DirtyServices, full: boolean): Promise<unknown[]> {
    const errors: unknown[] = [];
    const results: (SyncResult | undefined)[] = [];
    for (const family of this.options.families) {
      try {
        results.push(await this.syncFamily(family, states, full));
        this.metrics.written(family.rules.family, dirty);
        this.rulesWritten(family);
      } catch (error) {
        this.rulesQueued([family]);
        this.metrics.failed(family.rules, full);
        errors.push(error);
        results.push(undefined);
      }
    }
    await this.watches.settled(results);
    return errors;
  }

  private async syncFamily(family: ServedFamily, states: States, full: boolean): Promise<SyncResult> {
    const { rules, flows } = family;
    const start = monotonicMs();
    rules.setNode(this.input.view);
    // What was refused is tried again now and then: a kernel module may have come.
    const refused = full ? [...rules.refusals.keys()] : [];
    const again = refused.map((key) => [key, this.input.tracker.state(key)] as const);
    const result = await rules.sync([...again, ...states], full);
    flows.rulesStand();
    if (result.full && result.bytes > 0) {
      flows.rulesRepaired();
      // What is tried again is no repair.
      if (states.length + again.length === 0 && this.ready) {
        this.metrics.repairs.inc({ ip_family: rules.family.kubeName });
        this.watches.repaired(rules.family);
      }
    }
    family.localnet?.follow(rules.hasNodePorts);
    const ms = monotonicMs() - start;
    const seconds = ms / 1000;
    this.metrics.synced(rules.family, { ...result, seconds, refused: rules.refusals.size });
    const fields = { family: rules.family.name, ...result, services: states.length, ms: Math.round(ms) };
    this.log[result.bytes > 0 && result.full ? 'info' : 'debug'](fields, 'rules in sync');
    return result;
  }
}
