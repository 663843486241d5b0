import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ipv4, ipv6 } from '../../../src/model/address.ts';
import { ProxyMetrics } from '../../../src/services/metrics.ts';
import { parseEndpointSlice } from '../../../src/services/plan/parse.ts';
import { ServiceTracker } from '../../../src/services/plan/tracker.ts';
import { sliceObject } from '../../lab/service-fixtures.ts';

test('kube-proxy’s metrics have the names dashboards use', async () => {
  const text = await new ProxyMetrics().registry.metrics();
  const names = [
    'sync_proxy_rules_duration_seconds',
    'sync_full_proxy_rules_duration_seconds',
    'sync_partial_proxy_rules_duration_seconds',
    'network_programming_duration_seconds',
    'sync_proxy_rules_last_timestamp_seconds',
    'sync_proxy_rules_last_queued_timestamp_seconds',
    'sync_proxy_rules_endpoint_changes_total',
    'sync_proxy_rules_endpoint_changes_pending',
    'sync_proxy_rules_service_changes_total',
    'sync_proxy_rules_service_changes_pending',
    'sync_proxy_rules_no_local_endpoints_total',
    'sync_proxy_rules_iptables_restore_failures_total',
    'sync_proxy_rules_iptables_partial_restore_failures_total',
    'sync_proxy_rules_iptables_total',
    'conntrack_reconciler_deleted_entries_total',
    'conntrack_reconciler_sync_duration_seconds',
    'proxy_healthz_total',
    'proxy_livez_total',
  ];
  for (const name of names) assert.match(text, new RegExp(`^# TYPE kubeproxy_${name} `, 'm'));
});

test('what there is of the process and its build is told, too', async () => {
  const metrics = new ProxyMetrics();
  metrics.describeProcess();
  const text = await metrics.registry.metrics();
  for (const name of [
    'process_cpu_seconds_total',
    'process_resident_memory_bytes',
    'process_start_time_seconds',
  ])
    assert.match(text, new RegExp(`^${name} `, 'm'));
  for (const name of ['process_open_fds', 'process_max_fds', 'nodejs_eventloop_lag_seconds'])
    assert.match(text, new RegExp(`^${name} `, 'm'));
  assert.match(text, /^kubernetes_build_info\{major="\d+",minor="\d+",git_version="v.*\} 1$/m);
});

/** A slice of one endpoint that changed at that time. */
function slice(address: string, second: number) {
  const object = sliceObject('ns/web', [{ name: 'http', port: 80 }], [{ ip: address }]) as {
    metadata: { annotations?: Record<string, string> };
  };
  object.metadata.annotations = {
    'endpoints.kubernetes.io/last-change-trigger-time': new Date(second * 1000).toISOString(),
  };
  return parseEndpointSlice(object)!.value;
}

test('each change of endpoints after the start counts once, in the family of its slice', async () => {
  const tracker = new ServiceTracker(100_000);
  const metrics = new ProxyMetrics();
  const change = (key: string, address: string, second: number): void =>
    tracker.apply({ kind: 'slice', key, value: slice(address, second) });
  change('ns/before', '10.244.0.1', 99);
  change('ns/a', '10.244.0.1', 101);
  change('ns/a', '10.244.0.2', 102);
  change('ns/a', '10.244.0.2', 103); // nothing has changed but the time
  change('ns/gone', '10.244.0.3', 104);
  tracker.apply({ kind: 'slice', key: 'ns/gone', value: undefined });
  const { pending } = tracker;
  metrics.queued(ipv4, pending);
  assert.deepEqual(pending.endpointChanges, { IPv4: 5 });
  const dirty = tracker.takeDirty();
  assert.deepEqual(
    dirty.triggers.map(({ at }) => at / 1000),
    [101, 102],
  );
  metrics.written(ipv4, dirty, tracker.pending);
  metrics.written(ipv6, dirty, tracker.pending);
  const text = await metrics.registry.metrics();
  assert.match(text, /^kubeproxy_network_programming_duration_seconds_count\{ip_family="IPv4"\} 2$/m);
  assert.doesNotMatch(text, /network_programming_duration_seconds_count\{ip_family="IPv6"\}/);
  assert.match(text, /^kubeproxy_sync_proxy_rules_endpoint_changes_total\{ip_family="IPv4"\} 5$/m);
  assert.match(text, /^kubeproxy_sync_proxy_rules_endpoint_changes_total\{ip_family="IPv6"\} 0$/m);
  assert.match(text, /^kubeproxy_sync_proxy_rules_endpoint_changes_pending\{ip_family="IPv4"\} 0$/m);
});
