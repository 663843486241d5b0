import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ipv4, ipv6 } from '../../../src/model/address.ts';
import { networkBytes, virtualMemoryLimit } from '../../../src/process/process-metrics.ts';
import { ProxyMetrics } from '../../../src/services/metrics.ts';
import { parseEndpointSlice, parseService } from '../../../src/services/plan/parse.ts';
import { ServiceTracker } from '../../../src/services/plan/tracker.ts';
import { serviceObject, sliceObject } from '../../lab/service-fixtures.ts';

/**
 * kube-proxy's own metrics in mode iptables and their labels, from the reference of release 1.36
 * (https://kubernetes.io/docs/reference/instrumentation/metrics/).
 */
const kubeProxys: readonly (readonly [name: string, type: string, ...labels: string[]])[] = [
  ['conntrack_reconciler_deleted_entries_total', 'counter', 'ip_family'],
  ['conntrack_reconciler_sync_duration_seconds', 'histogram', 'ip_family'],
  ['iptables_ct_state_invalid_dropped_packets_total', 'counter'],
  ['iptables_localhost_nodeports_accepted_packets_total', 'counter'],
  ['network_programming_duration_seconds', 'histogram', 'ip_family'],
  ['proxy_healthz_total', 'counter', 'code'],
  ['proxy_livez_total', 'counter', 'code'],
  ['sync_full_proxy_rules_duration_seconds', 'histogram', 'ip_family'],
  ['sync_partial_proxy_rules_duration_seconds', 'histogram', 'ip_family'],
  ['sync_proxy_rules_duration_seconds', 'histogram', 'ip_family'],
  ['sync_proxy_rules_endpoint_changes_pending', 'gauge'],
  ['sync_proxy_rules_endpoint_changes_total', 'counter'],
  ['sync_proxy_rules_iptables_last', 'gauge', 'ip_family', 'table'],
  ['sync_proxy_rules_iptables_partial_restore_failures_total', 'counter', 'ip_family'],
  ['sync_proxy_rules_iptables_restore_failures_total', 'counter', 'ip_family'],
  ['sync_proxy_rules_iptables_total', 'gauge', 'ip_family', 'table'],
  ['sync_proxy_rules_last_queued_timestamp_seconds', 'gauge', 'ip_family'],
  ['sync_proxy_rules_last_timestamp_seconds', 'gauge', 'ip_family'],
  ['sync_proxy_rules_no_local_endpoints_total', 'gauge', 'ip_family', 'traffic_policy'],
  ['sync_proxy_rules_service_changes_pending', 'gauge'],
  ['sync_proxy_rules_service_changes_total', 'counter'],
];
/** client-go's, of what is done here: there is no rate limiter, and nothing is resolved by itself. */
const clientGos: typeof kubeProxys = [
  ['request_duration_seconds', 'histogram', 'host', 'verb'],
  ['request_size_bytes', 'histogram', 'host', 'verb'],
  ['requests_total', 'counter', 'code', 'host', 'method'],
  ['response_size_bytes', 'histogram', 'host', 'verb'],
];

/** Likewise in mode nftables: what is of iptables is not there, and this is. */
const inNftables: typeof kubeProxys = [
  ...kubeProxys.filter(([name]) => !name.includes('iptables')),
  ['sync_proxy_rules_nftables_cleanup_failures_total', 'counter', 'ip_family'],
  ['sync_proxy_rules_nftables_sync_failures_total', 'counter', 'ip_family'],
];

async function described(metrics: ProxyMetrics, prefix: string): Promise<unknown[]> {
  const all = metrics.registry.getMetricsAsArray() as unknown as readonly {
    readonly name: string;
    readonly type: string;
    readonly labelNames?: readonly string[];
  }[];
  // The library knows names and labels, and tells the type in text alone.
  const text = await metrics.registry.metrics();
  return all
    .filter(({ name }) => name.startsWith(prefix))
    .map(({ name, labelNames = [] }) => [
      name.slice(prefix.length),
      new RegExp(`^# TYPE ${name} (.*)$`, 'm').exec(text)?.[1],
      ...labelNames.filter((label) => label !== 'le').sort(),
    ])
    .sort();
}

test('kube-proxy’s metrics are all there, with its labels and no others', async () => {
  const metrics = new ProxyMetrics();
  metrics.modeIs({ mode: 'iptables', reason: 'asked for' }, 'iptables');
  for (const family of ['IPv4', 'IPv6']) {
    const [count] = [family === 'IPv4' ? 3 : 5];
    metrics.countPackets((name) => Promise.resolve(name === 'ct_state_invalid_dropped_pkts' ? count : 1));
  }
  assert.deepEqual(await described(metrics, 'kubeproxy_'), kubeProxys);
  assert.deepEqual(await described(metrics, 'rest_client_'), clientGos);
  const other = new ProxyMetrics();
  other.modeIs({ mode: 'nftables', reason: 'nothing against it' }, 'auto');
  assert.match(
    await other.registry.metrics(),
    /^twill_proxy_mode\{mode="nftables",wanted="auto",reason="nothing against it"\} 1$/m,
  );
  assert.deepEqual(await described(other, 'kubeproxy_'), [...inNftables].sort());
  assert.deepEqual(await described(other, 'rest_client_'), clientGos);
});

test('packets that rules count are shown once for both families, and not where the kernel has no counters', async () => {
  const metrics = new ProxyMetrics();
  assert.doesNotMatch(await metrics.registry.metrics(), /packets_total/);
  const read = (name: string) => Promise.resolve(name === 'localhost_nps_accepted_pkts' ? 7 : undefined);
  metrics.countPackets(read);
  metrics.countPackets(read);
  const text = await metrics.registry.metrics();
  assert.match(text, /^kubeproxy_iptables_localhost_nodeports_accepted_packets_total 7$/m);
  assert.match(text, /^kubeproxy_iptables_ct_state_invalid_dropped_packets_total 0$/m);
  assert.match(await metrics.registry.metrics(), /^kubeproxy_iptables_localhost_nodeports\S+ 7$/m);
});

test('a partial sync that fails counts as one, and as a failure', async () => {
  const metrics = new ProxyMetrics();
  metrics.failed({ family: ipv4, mode: 'iptables' }, true);
  metrics.failed({ family: ipv4, mode: 'iptables' }, false);
  const text = await metrics.registry.metrics();
  assert.match(text, /^kubeproxy_sync_proxy_rules_iptables_restore_failures_total\{ip_family="IPv4"\} 2$/m);
  assert.match(text, /_iptables_partial_restore_failures_total\{ip_family="IPv4"\} 1$/m);
});

test('what there is of the process and its build is told, too', async () => {
  const metrics = new ProxyMetrics();
  metrics.describeProcess();
  const text = await metrics.registry.metrics();
  for (const name of [
    'process_cpu_seconds_total',
    'process_resident_memory_bytes',
    'process_start_time_seconds',
    'process_virtual_memory_max_bytes',
    'process_network_receive_bytes_total',
    'process_network_transmit_bytes_total',
  ])
    assert.match(text, new RegExp(`^${name} `, 'm'));
  for (const name of ['process_open_fds', 'process_max_fds', 'nodejs_eventloop_lag_seconds'])
    assert.match(text, new RegExp(`^${name} `, 'm'));
  assert.match(text, /^kubernetes_build_info\{major="\d+",minor="\d+",git_version="v.*\} 1$/m);
});

test('limit of memory and bytes of the network are the kernel’s', () => {
  const limits = (soft: string): string =>
    `Limit                     Soft Limit           Hard Limit           Units     \nMax address space         ${soft}            unlimited            bytes     \n`;
  assert.equal(virtualMemoryLimit(limits('unlimited')), 2 ** 64);
  assert.equal(virtualMemoryLimit(limits('4096')), 4096);
  const netstat = 'TcpExt: InOctets\nTcpExt: 1\nIpExt: InNoRoutes InOctets OutOctets\nIpExt: 0 22 333\n';
  assert.equal(networkBytes(netstat, 'InOctets'), 22);
  assert.equal(networkBytes(netstat, 'OutOctets'), 333);
  assert.equal(networkBytes('', 'OutOctets'), 0);
});

test('a counter of a family is there when its rules stand, though nothing was counted', async () => {
  const metrics = new ProxyMetrics();
  metrics.synced(ipv6, { full: true, seconds: 1, refused: 0 });
  assert.match(
    await metrics.registry.metrics(),
    /^kubeproxy_conntrack_reconciler_deleted_entries_total\{ip_family="IPv6"\} 0$/m,
  );
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
  metrics.queued(ipv4);
  metrics.setPending(pending, ['IPv4', 'IPv6']);
  assert.match(await metrics.registry.metrics(), /^kubeproxy_sync_proxy_rules_endpoint_changes_pending 5$/m);
  assert.deepEqual(pending.endpointChanges, { IPv4: 5 });
  const dirty = tracker.takeDirty();
  assert.deepEqual(
    dirty.triggers.map(({ at }) => at / 1000),
    [101, 102],
  );
  metrics.setPending(tracker.pending, ['IPv4', 'IPv6']);
  for (const family of [ipv4, ipv6]) {
    metrics.seen(family, dirty);
    metrics.written(family, dirty);
  }
  const text = await metrics.registry.metrics();
  assert.match(text, /^kubeproxy_network_programming_duration_seconds_count\{ip_family="IPv4"\} 2$/m);
  assert.doesNotMatch(text, /network_programming_duration_seconds_count\{ip_family="IPv6"\}/);
  // Told, as kube-proxy counts, also where nothing has changed for the rules.
  assert.match(text, /^kubeproxy_sync_proxy_rules_endpoint_changes_total 6$/m);
  assert.match(text, /^kubeproxy_sync_proxy_rules_endpoint_changes_pending 0$/m);
});

test('each change of a Service that is told counts, as with kube-proxy; a list that says the same again has none', () => {
  const tracker = new ServiceTracker();
  const service = (clusterIP: string) =>
    parseService(serviceObject('ns/web', { clusterIP, ports: [{ port: 80 }] })).value;
  const tell = (clusterIP: string | undefined): void =>
    tracker.apply({ kind: 'service', key: 'ns/web', value: clusterIP ? service(clusterIP) : undefined });
  tracker.replace('service', [service('10.96.0.1')]);
  assert.equal(tracker.takeDirty().serviceChanges, 1);
  tracker.replace('service', [service('10.96.0.1')]);
  assert.equal(tracker.takeDirty().serviceChanges, 0);
  tell('10.96.0.1'); // another label, say
  assert.equal(tracker.pending.serviceChanges, 0);
  const relabelled = tracker.takeDirty();
  assert.deepEqual([relabelled.serviceChanges, relabelled.keys.size], [1, 0]);
  tell('10.96.0.2');
  assert.equal(tracker.pending.serviceChanges, 1);
  tell(undefined);
  tell(undefined);
  const gone = tracker.takeDirty();
  assert.deepEqual([gone.serviceChanges, [...gone.keys]], [2, ['ns/web']]);
});
