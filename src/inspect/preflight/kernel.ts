import { release } from 'node:os';
import { run } from '../../kernel/process.ts';
import { canWriteSysctl, readSysctl } from '../../kernel/sysctl.ts';
import { describeError } from '../../model/error.ts';
import { readFileIfPresent } from '../../process/files.ts';
import { bad, good, limitCheck, type PreflightCheck, poor } from '../plan/preflight.ts';

const CAP_NET_ADMIN = 12n;
const CAP_SYS_ADMIN = 21n;

/** What the process may do (proc_pid_status(5), CapEff). */
export function rightsChecks(): PreflightCheck[] {
  const [, text = '0'] = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileIfPresent('/proc/self/status') ?? '') ?? [];
  const has = (bit: bigint): boolean => (BigInt(`0x${text}`) & (1n << bit)) !== 0n;
  const missing = [
    ...(has(CAP_NET_ADMIN) ? [] : ['CAP_NET_ADMIN']),
    ...(has(CAP_SYS_ADMIN) ? [] : ['CAP_SYS_ADMIN']),
  ];
  if (missing.length === 0) return [good('rights', 'capabilities', 'may change the network')];
  const advice = 'run as root; in a container with securityContext.privileged';
  return [bad('rights', 'capabilities', `${missing.join(' and ')} missing`, advice)];
}

interface Feature {
  readonly name: string;
  /** A command for a network namespace that is gone afterwards. */
  readonly try: string;
  readonly without: string;
  readonly advice: string;
  readonly optional?: true;
}

const features: readonly Feature[] = [
  {
    name: 'VXLAN',
    try: 'ip link add twill0 type vxlan id 1 dstport 8472 local 127.0.0.1',
    without: 'the backend vxlan does not work',
    advice: 'load the module vxlan (linux-modules-extra on some distributions), or use the backend host-gw',
  },
  {
    name: 'bridge',
    try: 'ip link add twill0 type bridge',
    without: 'pods cannot be wired',
    advice: 'load the module bridge',
  },
  {
    name: 'veth',
    try: 'ip link add twill0 type veth peer name twill1',
    without: 'pods cannot be wired',
    advice: 'load the module veth',
  },
  {
    name: 'nexthop objects',
    try: 'ip link set lo up; ip nexthop add id 1 blackhole',
    without: 'thousands of routes take longer',
    advice: 'Linux 5.3 or newer has them',
    optional: true,
  },
  {
    name: 'traffic shaping',
    try: 'ip link add twill0 type ifb',
    without: 'the bandwidth capability does not work',
    advice: 'load the modules ifb, sch_tbf and act_mirred',
    optional: true,
  },
];

async function featureCheck({
  name,
  try: command,
  without,
  advice,
  optional,
}: Feature): Promise<PreflightCheck> {
  const { status, stderr } = await run('unshare', ['--net', 'sh', '-c', command]);
  if (status === 0) return good('kernel', name, 'works');
  const detail = `${stderr.trim().split('\n')[0] ?? 'refused'}: ${without}`;
  return (optional === true ? poor : bad)('kernel', name, detail, advice);
}

/** What the kernel can do, tried in namespaces of their own. */
export async function featureChecks(): Promise<PreflightCheck[]> {
  const all = await Promise.all(
    features.map((feature) =>
      featureCheck(feature).catch((error: unknown) =>
        poor(
          'kernel',
          feature.name,
          `cannot be tried: ${describeError(error)}`,
          'install util-linux and iproute2',
        ),
      ),
    ),
  );
  return [good('kernel', 'version', release()), ...all];
}

const MANY_NODES = 1000;
/** Documentation/networking/nf_conntrack-sysctl.rst; kube-proxy's standard is this for each processor. */
const LEAST_CONNTRACK = 131_072;

function turnedOn(setting: string, name: string, consequence: string): PreflightCheck[] {
  const value = readSysctl(setting);
  const dotted = setting.replaceAll('/', '.');
  if (value === '1') return [good('settings', name, `${dotted} is 1`)];
  if (value !== undefined && canWriteSysctl(setting))
    return [good('settings', name, `${dotted} is ${value}, and can be turned on: the agent does so`)];
  if (value === undefined) return [];
  const advice = `sysctl -w ${dotted}=1; in a container, mount /proc/sys writable (privileged)`;
  return [bad('settings', name, `${dotted} is ${value} and cannot be written: ${consequence}`, advice)];
}

/** Settings of the node. @param nodes how many nodes there are, or will be */
export function settingChecks(nodes: number | undefined): PreflightCheck[] {
  const number = (name: string): number | undefined => {
    const text = readSysctl(name);
    return text === undefined ? undefined : Number(text);
  };
  const bridged = readSysctl('net/bridge/bridge-nf-call-iptables');
  const netfilter =
    bridged === undefined
      ? [
          poor(
            'settings',
            'bridge netfilter',
            'the module br_netfilter is not loaded: a pod does not reach a ClusterIP whose endpoint is on its own node',
            'modprobe br_netfilter, and name it in /etc/modules-load.d/',
          ),
        ]
      : turnedOn('net/bridge/bridge-nf-call-iptables', 'bridge netfilter', 'Services fail within a node');
  return [
    ...turnedOn('net/ipv4/ip_forward', 'forwarding', 'nothing is forwarded to pods'),
    ...netfilter,
    ...limitCheck(
      'neighbour table',
      'net.ipv4.neigh.default.gc_thresh3',
      number('net/ipv4/neigh/default/gc_thresh3'),
      Math.max(MANY_NODES, 2 * (nodes ?? 0)),
      'packets to new destinations are dropped when the table is full',
    ),
    ...limitCheck(
      'connection tracking',
      'net.netfilter.nf_conntrack_max',
      number('net/netfilter/nf_conntrack_max'),
      LEAST_CONNTRACK,
      'new connections are dropped when the table is full',
    ),
  ];
}
