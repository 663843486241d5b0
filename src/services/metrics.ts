import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { Exchange } from '../kubernetes/config.ts';
import type { Family } from '../model/address.ts';
import { wallClockMs } from '../process/clock.ts';
import { describeProcess } from '../process/process-metrics.ts';
import { version } from '../process/version.ts';
import type { FamilyRules, SyncResult } from './family-rules.ts';
import { packetCounters } from './iptables/plan/counters.ts';
import type { ModeChoice, ProxyMode } from './plan/mode.ts';
import type { ChangeCounts, DirtyServices } from './plan/tracker.ts';

/** Bounds are kube-proxy's (pkg/proxy/metrics/metrics.go), for queries that name one. */
const buckets = Array.from({ length: 15 }, (_, index) => 2 ** index / 1000);
const programmingBuckets = [
  ...[0.25, 0.5],
  ...Array.from({ length: 59 }, (_, index) => 1 + index),
  ...Array.from({ length: 12 }, (_, index) => 60 + 5 * index),
  ...Array.from({ length: 7 }, (_, index) => 120 + 30 * index),
];
/** Likewise client-go's (k8s.io/component-base/metrics/prometheus/restclient). */
const requestBuckets = [0.005, 0.025, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60];
const sizeBuckets = [64, 256, 512, 1024, 4096, 16_384, 65_536, 262_144, 2 ** 20, 2 ** 22, 2 ** 24];

/** The proxy's metrics; names that start with kubeproxy_ are kube-proxy's own, so that dashboards keep working. */
export class ProxyMetrics {
  readonly registry = new Registry();
  /** What Kubernetes' components tell of their health checks at `/metrics/slis`. */
  readonly slis = new Registry();
  private readonly healthcheck = new Gauge({
    name: 'kubernetes_healthcheck',
    help: 'Outcome of a health check',
    labelNames: ['name', 'type'],
    registers: [this.slis],
  });
  private readonly healthchecks = new Counter({
    name: 'kubernetes_healthchecks_total',
    help: 'Outcomes of health checks',
    labelNames: ['name', 'status', 'type'],
    registers: [this.slis],
  });
  readonly sync = this.histogram('sync_proxy_rules_duration_seconds', 'Time to write rules', ['ip_family']);
  readonly fullSync = this.histogram(
    'sync_full_proxy_rules_duration_seconds',
    'Time to write rules after reading those that stand',
    ['ip_family'],
  );
  readonly partialSync = this.histogram(
    'sync_partial_proxy_rules_duration_seconds',
    'Time to write rules of what changed',
    ['ip_family'],
  );
  readonly programming = new Histogram({
    name: 'kubeproxy_network_programming_duration_seconds',
    help: 'Time from the change of a Service or endpoint until its rules stand',
    labelNames: ['ip_family'],
    buckets: programmingBuckets,
    registers: [this.registry],
  });
  readonly lastSync = this.gauge('sync_proxy_rules_last_timestamp_seconds', 'When rules were last in sync', [
    'ip_family',
  ]);
  readonly lastQueued = this.gauge(
    'sync_proxy_rules_last_queued_timestamp_seconds',
    'When a sync was last asked for',
    ['ip_family'],
  );
  readonly endpointChanges = this.counter(
    'sync_proxy_rules_endpoint_changes_total',
    'Changes of EndpointSlices of the families that are served',
    [],
  );
  readonly endpointChangesPending = this.gauge(
    'sync_proxy_rules_endpoint_changes_pending',
    'Changes of EndpointSlices not in the rules yet',
    [],
  );
  readonly serviceChanges = this.counter(
    'sync_proxy_rules_service_changes_total',
    'Changes of Services, counted in each family that is served',
    [],
  );
  readonly serviceChangesPending = this.gauge(
    'sync_proxy_rules_service_changes_pending',
    'Changes of Services not in the rules yet',
    [],
  );
  readonly noLocalEndpoints = this.gauge(
    'sync_proxy_rules_no_local_endpoints_total',
    'Service ports with policy Local and no endpoint on this node',
    ['ip_family', 'traffic_policy'],
  );
  readonly restoreFailures = this.counter(
    'sync_proxy_rules_iptables_restore_failures_total',
    'Calls of iptables-restore that failed',
    ['ip_family'],
  );
  readonly partialRestoreFailures = this.counter(
    'sync_proxy_rules_iptables_partial_restore_failures_total',
    'Calls of iptables-restore with what changed that failed, after which all is compared',
    ['ip_family'],
  );
  readonly rules = this.gauge('sync_proxy_rules_iptables_total', 'Rules that stand', ['ip_family', 'table']);
  readonly lastRules = this.gauge('sync_proxy_rules_iptables_last', 'Rules that the last sync has written', [
    'ip_family',
    'table',
  ]);
  readonly nftablesFailures = this.counter(
    'sync_proxy_rules_nftables_sync_failures_total',
    'Changes of the nftables table that failed, after which all is compared',
    ['ip_family'],
  );
  readonly nftablesCleanupFailures = this.counter(
    'sync_proxy_rules_nftables_cleanup_failures_total',
    'Times that what is not used any more could not be removed by itself: it goes with the change here',
    ['ip_family'],
  );
  readonly elements = new Gauge({
    name: 'twill_proxy_nftables_elements',
    help: 'Elements that stand in the sets and maps of the nftables table',
    labelNames: ['ip_family', 'set'],
    registers: [this.registry],
  });
  readonly healthz = this.counter('proxy_healthz_total', 'Answers of /healthz by status', ['code']);
  readonly livez = this.counter('proxy_livez_total', 'Answers of /livez by status', ['code']);
  readonly skipped = new Counter({
    name: 'twill_proxy_objects_skipped_total',
    help: 'Services, EndpointSlices or parts of them left out because they cannot be used',
    registers: [this.registry],
  });
  readonly repairs = new Counter({
    name: 'twill_proxy_repairs_total',
    help: 'Times that rules were put right because something else had changed them',
    labelNames: ['ip_family'],
    registers: [this.registry],
  });
  readonly staleFlows = this.counter(
    'conntrack_reconciler_deleted_entries_total',
    'Tracked flows deleted because they led to an endpoint that is gone',
    ['ip_family'],
  );
  readonly flowsLook = this.histogram(
    'conntrack_reconciler_sync_duration_seconds',
    'Time to look for such flows',
    ['ip_family'],
  );
  /** client-go's name. */
  readonly requests = new Counter({
    name: 'rest_client_requests_total',
    help: 'Requests to the Kubernetes API by status, method and host',
    labelNames: ['code', 'method', 'host'],
    registers: [this.registry],
  });
  private readonly requestSeconds = this.ofRequests(
    'request_duration_seconds',
    'Time from a request to the end of its answer; watches have none',
    requestBuckets,
  );
  private readonly requestBytes = this.ofRequests('request_size_bytes', 'Bytes of requests', sizeBuckets);
  private readonly responseBytes = this.ofRequests('response_size_bytes', 'Bytes of answers', sizeBuckets);
  readonly refused = new Gauge({
    name: 'twill_proxy_services_refused',
    help: 'Services without rules because the kernel refused them',
    labelNames: ['ip_family'],
    registers: [this.registry],
  });

  private readonly mode = new Gauge({
    name: 'twill_proxy_mode',
    help: 'The constant 1, labelled by how rules are programmed, what --proxy-mode says of it, and why it is this',
    labelNames: ['mode', 'wanted', 'reason'],
    registers: [this.registry],
  });

  /**
   * To be called once, before anything is read.
   * @param wanted as --proxy-mode says it
   */
  modeIs({ mode, reason }: ModeChoice, wanted: string): void {
    this.tellOf(mode);
    this.mode.set({ mode, wanted, reason }, 1);
  }

  /** What is of another mode is not there, as with kube-proxy. */
  private tellOf(mode: ProxyMode): void {
    const other = mode === 'iptables' ? /^(kubeproxy|twill)_.*_nftables_/ : /^kubeproxy_.*_iptables_/;
    const names = this.registry.getMetricsAsArray().map(({ name }) => name);
    for (const name of names) if (other.test(name)) this.registry.removeSingleMetric(name);
  }

  /** Changes wait to be written. */
  queued({ kubeName }: Family): void {
    this.lastQueued.set({ ip_family: kubeName }, wallClockMs() / 1000);
  }

  /** Changes that concern a family are taken up, whatever comes of it. */
  seen({ kubeName }: Family, changes: DirtyServices): void {
    this.endpointChanges.inc(changes.endpointChanges[kubeName] ?? 0);
    this.serviceChanges.inc(changes.serviceChanges);
  }

  /** Changes that wait. @param served families, as Kubernetes names them */
  setPending(pending: ChangeCounts, served: readonly string[]): void {
    const slices = served.map((name) => pending.endpointChanges[name] ?? 0);
    this.endpointChangesPending.set(slices.reduce((sum, count) => sum + count, 0));
    this.serviceChangesPending.set(pending.serviceChanges);
  }

  /** Changes are written. */
  written({ kubeName }: Family, changes: DirtyServices): void {
    const labels = { ip_family: kubeName };
    const now = wallClockMs();
    for (const { family, at } of changes.triggers)
      if (family.kubeName === kubeName) this.programming.observe(labels, Math.max(0, now - at) / 1000);
  }

  /** Rules of a family could not be written. @param full all of them, not only those that changed */
  failed({ family, mode }: Pick<FamilyRules, 'family' | 'mode'>, full: boolean): void {
    const labels = { ip_family: family.kubeName };
    if (mode === 'nftables') this.nftablesFailures.inc(labels);
    else {
      this.restoreFailures.inc(labels);
      if (!full) this.partialRestoreFailures.inc(labels);
    }
  }

  /** How much should stand. */
  counted({ family, mode, ruleCounts }: Pick<FamilyRules, 'family' | 'mode' | 'ruleCounts'>): void {
    const ip_family = family.kubeName;
    for (const [name, count] of Object.entries(ruleCounts)) {
      if (mode === 'iptables') this.rules.set({ ip_family, table: name }, count);
      else this.elements.set({ ip_family, set: name }, count);
    }
  }

  /** `/healthz` of the server of metrics was asked: it answers, that is all it says. */
  pinged(): void {
    this.healthcheck.set({ name: 'ping', type: 'healthz' }, 1);
    this.healthchecks.inc({ name: 'ping', type: 'healthz', status: 'success' });
  }

  /** What kube-proxy has of its process and build, and what Node has. */
  describeProcess(): void {
    describeProcess({ Counter, Gauge, collectDefaultMetrics }, this.registry, 'proxy');
    const [major = '', minor = ''] = version.split('.');
    const build = {
      ...{ major, minor, git_version: `v${version}`, git_commit: '', git_tree_state: '', build_date: '' },
      ...{ go_version: '', compiler: `node ${process.version}`, platform: `linux/${process.arch}` },
    };
    new Gauge({
      name: 'kubernetes_build_info',
      help: "The constant 1, labelled by this program's build",
      labelNames: Object.keys(build),
      registers: [this.registry],
    }).set(build, 1);
  }

  /** A request to the Kubernetes API was answered. */
  exchanged({ method, host, seconds, bytesSent, bytesReceived }: Exchange): void {
    const labels = { verb: method, host };
    this.requestSeconds.observe(labels, seconds);
    this.requestBytes.observe(labels, bytesSent);
    this.responseBytes.observe(labels, bytesReceived);
  }

  /**
   * Shows what rules count in the kernel, of both families together; the second call changes nothing.
   * @param read tells what a counter has counted; undefined when there is none
   */
  countPackets(read: (name: string) => Promise<number | undefined>): void {
    const show = (name: string, help: string, counter: string): void => {
      const registers = [this.registry];
      new Counter({
        name: `kubeproxy_iptables_${name}`,
        help,
        registers,
        async collect() {
          const packets = await read(counter).catch(() => undefined);
          this.reset();
          this.inc(packets ?? 0);
        },
      });
    };
    if (this.registry.getSingleMetric('kubeproxy_iptables_ct_state_invalid_dropped_packets_total')) return;
    show(
      'ct_state_invalid_dropped_packets_total',
      'Packets dropped because connection tracking takes them for part of no connection',
      packetCounters.invalidDropped,
    );
    show(
      'localhost_nodeports_accepted_packets_total',
      'First packets of connections to node ports at a loopback address',
      packetCounters.localhostNodePorts,
    );
  }

  /** The rules of a family stand. */
  synced(
    { kubeName }: Family,
    sync: {
      readonly full: boolean;
      readonly rules?: SyncResult['rules'];
      readonly seconds: number;
      readonly refused: number;
    },
  ): void {
    const labels = { ip_family: kubeName };
    this.sync.observe(labels, sync.seconds);
    (sync.full ? this.fullSync : this.partialSync).observe(labels, sync.seconds);
    this.lastSync.set(labels, wallClockMs() / 1000);
    this.refused.set(labels, sync.refused);
    // A counter that nothing has counted yet is there as well, as with kube-proxy.
    this.staleFlows.inc(labels, 0);
    for (const [table, count] of Object.entries(sync.rules ?? {}))
      this.lastRules.set({ ...labels, table }, count);
  }

  private ofRequests(name: string, help: string, bounds: number[]): Histogram<'verb' | 'host'> {
    return new Histogram({
      name: `rest_client_${name}`,
      help,
      labelNames: ['verb', 'host'],
      buckets: bounds,
      registers: [this.registry],
    });
  }

  private histogram<T extends string>(name: string, help: string, labelNames: T[]): Histogram<T> {
    return new Histogram({
      name: `kubeproxy_${name}`,
      help,
      labelNames,
      buckets,
      registers: [this.registry],
    });
  }

  private gauge<T extends string>(name: string, help: string, labelNames: T[]): Gauge<T> {
    return new Gauge({ name: `kubeproxy_${name}`, help, labelNames, registers: [this.registry] });
  }

  private counter<T extends string>(name: string, help: string, labelNames: T[]): Counter<T> {
    return new Counter({ name: `kubeproxy_${name}`, help, labelNames, registers: [this.registry] });
  }
}
