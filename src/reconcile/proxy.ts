import { existsSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { type Log, LogLimiter, makeLog } from '../config/log.ts';
import { fromPodMatch, type ProxyConfig } from '../config/proxy.ts';
import type { NodeView } from '../desired/service-table.ts';
import { type ServiceState, ServiceTracker } from '../desired/service-tracker.ts';
import { detectVariant, openIptables } from '../kernel/iptables.ts';
import { readSysctl, writeSysctl } from '../kernel/sysctl.ts';
import { type Family, ipv4, ipv6, prefixContains, tryParseAddress } from '../model/address.ts';
import { describeError } from '../model/error.ts';
import { tables } from '../render/iptables/names.ts';
import type { RenderOptions } from '../render/iptables/service-rules.ts';
import { ManifestSource } from '../store/manifests.ts';
import type { ObjectKind, ServiceSink, ServiceSource } from '../store/service-source.ts';
import { ReconcileLoop } from './loop.ts';
import { startProxyServers } from './proxy-health.ts';
import { ProxyMetrics } from './proxy-metrics.ts';
import { ProxyRules, sha256 } from './proxy-rules.ts';

function nodeAddresses(family: Family): string[] {
  return Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .map(({ address }) => tryParseAddress(address.split('%')[0]))
    .filter((address) => address?.family === family)
    .map((address) => address!.text);
}

/** Everything rules depend on besides Services, as it is now. */
export function renderOptions(
  config: ProxyConfig,
  family: Family,
  localhostNodePorts: boolean,
): RenderOptions {
  const own = nodeAddresses(family);
  const serving = config.nodePortAddresses?.filter((prefix) => prefix.family === family);
  const onLoopback = family === ipv4 && localhostNodePorts;
  return {
    v6: family === ipv6,
    fromPod: fromPodMatch(config.localDetection, family),
    masqueradeAll: config.masqueradeAll,
    localhostNodePorts: onLoopback,
    nodePortAddresses:
      serving &&
      own.filter((text) => {
        const address = tryParseAddress(text)!;
        const loopback = text.startsWith('127.') || text === '::1';
        return (!loopback || onLoopback) && serving.some((prefix) => prefixContains(prefix, address));
      }),
    tolerateInvalid: (readSysctl('net/netfilter/nf_conntrack_tcp_be_liberal') ?? '0') !== '0',
    nodeAddresses: own,
    sha256,
  };
}

/** Names of objects come from outside: in a log they must not look like lines of their own. */
function printable(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, '?');
}

/** Binds sources, tracker and rules: one loop that writes what changed. */
export class ServiceProxy {
  readonly metrics = new ProxyMetrics();
  readonly loop: ReconcileLoop;
  private readonly config: ProxyConfig;
  private readonly log: Log;
  private readonly source: ServiceSource;
  private readonly rules: readonly ProxyRules[];
  private readonly tracker = new ServiceTracker();
  private readonly listed = new Set<ObjectKind>();
  private readonly limiter = new LogLimiter();
  private readonly localhostNodePorts: boolean;
  private node: NodeView;
  readonly startedAt = Date.now();
  private lastFull = 0;
  private failed = false;

  constructor(options: {
    config: ProxyConfig;
    log: Log;
    source: ServiceSource;
    rules: readonly ProxyRules[];
    localhostNodePorts: boolean;
  }) {
    this.config = options.config;
    this.log = options.log;
    this.source = options.source;
    this.node = { name: this.config.nodeName };
    this.rules = options.rules;
    this.localhostNodePorts = options.localhostNodePorts;
    this.loop = new ReconcileLoop({
      name: 'proxy-rules',
      log: this.log,
      work: () => this.sync(),
      resyncMs: this.config.resyncMs,
      minIntervalMs: this.config.minSyncMs,
    });
  }

  async start(): Promise<void> {
    await this.source.start(this.sink());
  }

  async stop(): Promise<void> {
    await this.source.stop();
    await this.loop.stop();
  }

  /** True once rules of a full list stand and the last sync did not fail. */
  get ready(): boolean {
    const { lastSuccess, consecutiveFailures } = this.loop.status();
    return lastSuccess !== undefined && consecutiveFailures === 0;
  }

  /** Brings gauges that are costly to keep up to date; called when metrics are read. */
  updateGauges(): void {
    for (const rules of this.rules) {
      const counts = rules.ruleCounts;
      for (const table of tables) {
        this.metrics.rules.set({ ip_family: rules.family.kubeName, table }, counts[table]);
      }
    }
  }

  private get hasLists(): boolean {
    return this.listed.has('service') && this.listed.has('slice');
  }

  private sink(): ServiceSink {
    const changed = (reason: string): void => {
      for (const { family } of this.rules) {
        const labels = { ip_family: family.kubeName };
        this.metrics.lastQueued.set(labels, Date.now() / 1000);
        this.metrics.endpointChangesPending.set(labels, this.tracker.pending.endpointChanges);
        this.metrics.serviceChangesPending.set(labels, this.tracker.pending.serviceChanges);
      }
      // Rules of a partial list would cut off Services that are merely not listed yet.
      if (this.hasLists) this.loop.trigger(reason);
    };
    return {
      replace: (kind, values) => {
        this.tracker.replace(kind, values);
        this.listed.add(kind);
        changed(`${kind} list`);
      },
      change: (change) => {
        this.tracker.apply(change);
        changed(change.kind);
      },
      node: (zone) => {
        if (zone === this.node.zone) return;
        this.node = { name: this.config.nodeName, zone };
        this.tracker.touchAll();
        changed('node');
      },
      skipped: (where, problem) => {
        this.metrics.skipped.inc();
        const suppressed = this.limiter.allow(`${where} ${problem}`);
        if (suppressed !== undefined)
          this.log.warn({ where: printable(where), problem, suppressed }, 'left out');
      },
    };
  }

  private async sync(): Promise<void> {
    const now = Date.now();
    const dirty = this.tracker.takeDirty();
    const full = this.failed || now - this.lastFull >= this.config.resyncMs;
    // What a failed sync had taken is in the rules' desired state already: only writing it is repeated.
    const states: [string, ServiceState][] = [...dirty.keys].map((key) => [key, this.tracker.state(key)]);
    const errors: unknown[] = [];
    for (const rules of this.rules) {
      const labels = { ip_family: rules.family.kubeName };
      this.metrics.endpointChanges.inc(labels, dirty.endpointChanges);
      this.metrics.serviceChanges.inc(labels, dirty.serviceChanges);
      try {
        await this.syncFamily(rules, states, full);
        if (dirty.oldestChange !== undefined) {
          this.metrics.programming.observe(labels, Math.max(0, Date.now() - dirty.oldestChange) / 1000);
        }
      } catch (error) {
        this.metrics.restoreFailures.inc(labels);
        errors.push(error);
      }
    }
    this.failed = errors.length > 0;
    if (errors.length > 0) throw errors[0];
    if (full) this.lastFull = now;
  }

  private async syncFamily(
    rules: ProxyRules,
    states: readonly [string, ServiceState][],
    full: boolean,
  ): Promise<void> {
    const labels = { ip_family: rules.family.kubeName };
    const start = process.hrtime.bigint();
    rules.setNode(this.node);
    if (full) rules.configure(renderOptions(this.config, rules.family, this.localhostNodePorts));
    const result = await rules.sync(states, full);
    const seconds = Number(process.hrtime.bigint() - start) / 1e9;
    this.metrics.sync.observe(labels, seconds);
    (result.full ? this.metrics.fullSync : this.metrics.partialSync).observe(labels, seconds);
    this.metrics.lastSync.set(labels, Date.now() / 1000);
    this.metrics.refused.set(labels, rules.refusals.size);
    const fields = {
      family: rules.family.name,
      ...result,
      services: states.length,
      ms: Math.round(seconds * 1000),
    };
    this.log[result.bytes > 0 && result.full ? 'info' : 'debug'](fields, 'rules in sync');
  }
}

/** Node ports on 127.0.0.1 need packets from there to be routed; without the right to allow that, they are left out. */
function allowLocalnet(config: ProxyConfig, log: Log): boolean {
  if (!config.localhostNodePorts) return false;
  try {
    writeSysctl('net/ipv4/conf/all/route_localnet', '1');
    return true;
  } catch (error) {
    log.warn({ error: describeError(error) }, 'node ports will not answer on 127.0.0.1');
    return false;
  }
}

async function openFamilies(
  config: ProxyConfig,
  localhostNodePorts: boolean,
  log: Log,
): Promise<ProxyRules[]> {
  const node: NodeView = { name: config.nodeName };
  const opened: ProxyRules[] = [];
  for (const family of [ipv4, ipv6]) {
    if (family === ipv6 && !existsSync('/proc/net/if_inet6')) continue;
    try {
      const { variant, why } = await detectVariant(family);
      log.info({ family: family.name, variant, why }, 'iptables');
      opened.push(
        new ProxyRules({
          family,
          iptables: openIptables(family, variant),
          render: renderOptions(config, family, localhostNodePorts),
          node,
          log,
        }),
      );
    } catch (error) {
      if (family === ipv4) throw error;
      log.warn({ family: family.name, error: describeError(error) }, 'this family is not served');
    }
  }
  return opened;
}

async function openSource(config: ProxyConfig, log: Log): Promise<ServiceSource> {
  if (config.manifests !== undefined) return new ManifestSource(config.manifests);
  const { KubeClient } = await import('../store/kube-client.ts');
  const { KubeServiceSource } = await import('../store/kube-services.ts');
  const client = await KubeClient.open({ kubeconfig: config.kubeconfig, master: config.master });
  return new KubeServiceSource({ client, nodeName: config.nodeName, log });
}

/** Runs until SIGTERM or SIGINT; the rules stay. @throws TwillError when it cannot start */
export async function runProxy(config: ProxyConfig): Promise<void> {
  const log = makeLog({ level: config.logLevel, format: config.logFormat, name: 'proxy' });
  const source = await openSource(config, log);
  const localhostNodePorts = allowLocalnet(config, log);
  const rules = await openFamilies(config, localhostNodePorts, log);
  const proxy = new ServiceProxy({ config, log, source, rules, localhostNodePorts });
  const servers = await startProxyServers(config, proxy);
  log.info({ node: config.nodeName, source: source.description }, 'proxy starts');
  const stopped = new Promise<string>((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => resolve(signal));
  });
  try {
    await proxy.start();
    const signal = await stopped;
    log.info({ signal }, 'proxy ends, rules stay');
  } finally {
    await proxy.stop();
    await servers.close();
  }
}
