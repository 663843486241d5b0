import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { Family } from '../model/address.ts';
import { wallClockMs } from '../process/clock.ts';
import { version } from '../process/version.ts';
import type { DirtyServices, ServiceTracker } from './plan/tracker.ts';

type PendingChanges = ServiceTracker['pending'];

/** Bounds are kube-proxy's (pkg/proxy/metrics/metrics.go), for queries that name one. */
const buckets = Array.from({ length: 15 }, (_, index) => 2 ** index / 1000);
const programmingBuckets = [
  ...[0.25, 0.5],
  ...Array.from({ length: 59 }, (_, index) => 1 + index),
  ...Array.from({ length: 12 }, (_, index) => 60 + 5 * index),
  ...Array.from({ length: 7 }, (_, index) => 120 + 30 * index),
];

/** The proxy's metrics; names that start with kubeproxy_ are kube-proxy's own, so that dashboards keep working. */
export class ProxyMetrics {
  readonly registry = new Registry();
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
    'Changes of EndpointSlices',
    ['ip_family'],
  );
  readonly endpointChangesPending = this.gauge(
    'sync_proxy_rules_endpoint_changes_pending',
    'Changes of EndpointSlices not in the rules yet',
    ['ip_family'],
  );
  readonly serviceChanges = this.counter('sync_proxy_rules_service_changes_total', 'Changes of Services', [
    'ip_family',
  ]);
  readonly serviceChangesPending = this.gauge(
    'sync_proxy_rules_service_changes_pending',
    'Changes of Services not in the rules yet',
    ['ip_family'],
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
  readonly healthz = this.counter('proxy_healthz_total', 'Answers of /healthz by status', ['code']);
  readonly livez = this.counter('proxy_livez_total', 'Answers of /livez by status', ['code']);
  readonly skipped = new Counter({
    name: 'twill_proxy_objects_skipped_total',
    help: 'Services, EndpointSlices or parts of them left out because they cannot be used',
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
  readonly refused = new Gauge({
    name: 'twill_proxy_services_refused',
    help: 'Services without rules because the kernel refused them',
    labelNames: ['ip_family'],
    registers: [this.registry],
  });

  /** Changes wait to be written. */
  queued({ kubeName }: Family, pending: PendingChanges): void {
    this.lastQueued.set({ ip_family: kubeName }, wallClockMs() / 1000);
    this.setPending(kubeName, pending);
  }

  /** Changes are written. @param pending those that came meanwhile */
  written({ kubeName }: Family, changes: DirtyServices, pending: PendingChanges): void {
    const labels = { ip_family: kubeName };
    this.endpointChanges.inc(labels, changes.endpointChanges[kubeName] ?? 0);
    this.serviceChanges.inc(labels, changes.serviceChanges);
    this.setPending(kubeName, pending);
    const now = wallClockMs();
    for (const { family, at } of changes.triggers)
      if (family.kubeName === kubeName) this.programming.observe(labels, Math.max(0, now - at) / 1000);
  }

  /** Rules of a family could not be written. @param full all of them, not only those that changed */
  failed({ kubeName }: Family, full: boolean): void {
    (full ? this.restoreFailures : this.partialRestoreFailures).inc({ ip_family: kubeName });
  }

  /**
   * What kube-proxy has of its process and build, and what Node has. Event loop lag is looked at once a second: the
   * library's own measure wakes an idle process a hundred times as often.
   */
  describeProcess(): void {
    collectDefaultMetrics({ register: this.registry, eventLoopMonitoringPrecision: 1000 });
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

  /** The rules of a family stand. */
  synced(
    { kubeName }: Family,
    sync: { readonly full: boolean; readonly seconds: number; readonly refused: number },
  ): void {
    const labels = { ip_family: kubeName };
    this.sync.observe(labels, sync.seconds);
    (sync.full ? this.fullSync : this.partialSync).observe(labels, sync.seconds);
    this.lastSync.set(labels, wallClockMs() / 1000);
    this.refused.set(labels, sync.refused);
  }

  private setPending(ip_family: string, pending: PendingChanges): void {
    this.endpointChangesPending.set({ ip_family }, pending.endpointChanges[ip_family] ?? 0);
    this.serviceChangesPending.set({ ip_family }, pending.serviceChanges);
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
