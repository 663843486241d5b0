import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ProxyMetrics } from '../../../src/services/metrics.ts';

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
    'proxy_healthz_total',
    'proxy_livez_total',
  ];
  for (const name of names) assert.match(text, new RegExp(`^# TYPE kubeproxy_${name} `, 'm'));
});
