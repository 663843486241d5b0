import type { Flag } from '../../model/flag.ts';
import type { ProxyFlag } from './proxy-flag.ts';

const otherMode = 'it belongs to another proxy mode';
const ownLog = 'logs are lines on standard error, each written at once';
const ourWatches = 'three watches are all that the Kubernetes API is asked for, in JSON';

/** kube-proxy's flags that are known here and change nothing. */
export const idleFlags: readonly ProxyFlag[] = [
  idle('feature-gates', 'list', 'there are no feature gates here', 'featureGates'),
  idle('kube-api-burst', 'integer', ourWatches, 'clientConnection.burst', 10),
  idle('kube-api-qps', 'number', ourWatches, 'clientConnection.qps', 5),
  idle(
    'kube-api-content-type',
    'text',
    ourWatches,
    'clientConnection.contentType',
    'application/vnd.kubernetes.protobuf',
  ),
  idle(
    'config-sync-period',
    'duration',
    'what a watch has missed is listed again at once',
    'configSyncPeriod',
    '15m0s',
  ),
  idle('show-hidden-metrics-for-version', 'text', 'no metric is hidden', 'showHiddenMetricsForVersion'),
  idle('ipvs-exclude-cidrs', 'list', otherMode, 'ipvs.excludeCIDRs'),
  idle('ipvs-min-sync-period', 'duration', otherMode, 'ipvs.minSyncPeriod', '0s'),
  idle('ipvs-scheduler', 'text', otherMode, 'ipvs.scheduler'),
  idle('ipvs-strict-arp', 'boolean', otherMode, 'ipvs.strictARP', false),
  idle('ipvs-sync-period', 'duration', otherMode, 'ipvs.syncPeriod', '30s'),
  idle('ipvs-tcp-timeout', 'duration', otherMode, 'ipvs.tcpTimeout', '0s'),
  idle('ipvs-tcpfin-timeout', 'duration', otherMode, 'ipvs.tcpFinTimeout', '0s'),
  idle('ipvs-udp-timeout', 'duration', otherMode, 'ipvs.udpTimeout', '0s'),
  beside(idle('vmodule', 'text', 'log lines have no level of their own by file: --v is for all')),
  beside(idle('log-flush-frequency', 'duration', ownLog)),
  beside(idle('log-json-split-stream', 'boolean', ownLog, 'logging.options.json.splitStream', false)),
  beside(idle('log-json-info-buffer-size', 'text', ownLog)),
  beside(idle('log-text-split-stream', 'boolean', ownLog, 'logging.options.text.splitStream', false)),
  beside(idle('log-text-info-buffer-size', 'text', ownLog)),
  ...['boot-id-file', 'machine-id-file'].map((name) =>
    beside(idle(name, 'text', 'what they identify is not asked for')),
  ),
  // Flags of older versions, which manifests still have.
  ...['log-backtrace-at', 'stderrthreshold', 'log-dir', 'log-file', 'log-file-max-size'].map((name) =>
    beside(idle(name, 'text', ownLog)),
  ),
  ...[
    'logtostderr',
    'alsologtostderr',
    'add-dir-header',
    'skip-headers',
    'skip-log-headers',
    'one-output',
  ].map((name) => beside(idle(name, 'boolean', ownLog))),
];

function idle(
  name: string,
  kind: Flag['kind'],
  why: string,
  field?: string,
  standard?: string | number | boolean,
): ProxyFlag {
  return {
    name,
    kind,
    help: `has no effect: ${why}`,
    idle: why,
    ...(field === undefined ? {} : { field }),
    ...(standard === undefined ? {} : { standard }),
  };
}

function beside(flag: ProxyFlag): ProxyFlag {
  return { ...flag, beside: true };
}

/** A field of a KubeProxyConfiguration that is no flag, and changes nothing here. */
export interface IdleField {
  readonly field: string;
  readonly kind: Flag['kind'] | 'any';
  readonly standard?: string | number | boolean;
  readonly zeroCounts?: true;
  readonly idle: string;
}

const windows = 'it is for Windows';

export const idleFields: readonly IdleField[] = [
  { field: 'clientConnection.acceptContentTypes', kind: 'text', idle: ourWatches },
  { field: 'logging.flushFrequency', kind: 'any', standard: '5s', idle: ownLog },
  { field: 'logging.options.json.infoBufferSize', kind: 'any', idle: ownLog },
  { field: 'logging.options.text.infoBufferSize', kind: 'any', idle: ownLog },
  { field: 'logging.vmodule', kind: 'any', idle: 'log lines have no level of their own by file' },
  { field: 'nftables.masqueradeAll', kind: 'boolean', standard: false, idle: otherMode },
  { field: 'nftables.masqueradeBit', kind: 'integer', standard: 14, zeroCounts: true, idle: otherMode },
  { field: 'nftables.minSyncPeriod', kind: 'duration', standard: '1s', idle: otherMode },
  { field: 'nftables.syncPeriod', kind: 'duration', standard: '30s', idle: otherMode },
  { field: 'portRange', kind: 'text', idle: 'it was for the userspace mode, which is gone' },
  {
    field: 'udpIdleTimeout',
    kind: 'duration',
    standard: '250ms',
    idle: 'it was for the userspace mode, which is gone',
  },
  { field: 'windowsRunAsService', kind: 'boolean', standard: false, idle: windows },
  { field: 'winkernel.enableDSR', kind: 'boolean', standard: false, idle: windows },
  { field: 'winkernel.forwardHealthCheckVip', kind: 'boolean', standard: false, idle: windows },
  { field: 'winkernel.networkName', kind: 'text', idle: windows },
  { field: 'winkernel.rootHnsEndpointName', kind: 'text', idle: windows },
  { field: 'winkernel.sourceVip', kind: 'text', idle: windows },
];
