import { addressesOf, type Bandwidth, type PodRecord } from '../pods/plan/pod.ts';
import { wallClockMs } from '../process/clock.ts';
import { age } from './age.ts';
import { type Look, looking } from './look.ts';
import { type Answer, type InspectFlags, type Screen, show } from './output.ts';
import { podName } from './plan/wiring.ts';
import { type Cell, formatTable } from './table.ts';

export interface PodsFlags extends InspectFlags {
  readonly cniSocket?: string;
}

/** A pod as `-o json` shows it: its record, and what is wrong with it. */
export interface ShownPod extends PodRecord {
  readonly troubles: readonly string[];
}

export interface PodsAnswer extends Answer {
  readonly version: 1;
  /** Where this is from; undefined where the agent has said it itself. */
  readonly agentAway: string | undefined;
  readonly pods: readonly ShownPod[];
}

/** A rate in bits per second, for people. */
function rate(bits: number): string {
  for (const [unit, size] of [
    ['G', 1e9],
    ['M', 1e6],
    ['k', 1e3],
  ] as const)
    if (bits >= size) return `${Math.round((bits / size) * 10) / 10} ${unit}bit/s`;
  return `${bits} bit/s`;
}

function limits({ ingressRate, egressRate }: Bandwidth): string[] {
  return [
    ...(ingressRate ? [`in at most ${rate(ingressRate)}`] : []),
    ...(egressRate ? [`out at most ${rate(egressRate)}`] : []),
  ];
}

function notes(pod: ShownPod): string {
  const ports = pod.portMappings.map(
    ({ hostPort, containerPort, protocol }) => `${hostPort}->${containerPort}/${protocol}`,
  );
  return [
    ...pod.troubles,
    ...(pod.adopted === true ? ['adopted'] : []),
    ...(pod.pod === undefined ? [] : [`container ${pod.containerId.slice(0, 13)}`]),
    ...(pod.ifname === 'eth0' ? [] : [`interface ${pod.ifname}`]),
    ...(ports.length === 0 ? [] : [`host ports ${ports.join(' ')}`]),
    ...(pod.bandwidth === undefined ? [] : limits(pod.bandwidth)),
  ].join('; ');
}

function row(pod: ShownPod, now: number): Cell[] {
  const { mac, hostVeth, createdAt, troubles } = pod;
  return [
    podName(pod),
    addressesOf(pod).join(','),
    mac,
    hostVeth,
    age(createdAt, now),
    troubles.length === 0 ? notes(pod) : { text: notes(pod), tone: 'bad' },
  ];
}

/** The pods as a table, oldest first. */
function podTable({ pods, agentAway }: PodsAnswer, now: number, { paint, width }: Screen): string {
  const sorted = [...pods].sort((a, b) => a.order - b.order);
  const table = formatTable(
    ['POD', 'ADDRESSES', 'MAC', 'HOST VETH', 'AGE', 'NOTES'],
    sorted.map((pod) => row(pod, now)),
    { paint, width },
  );
  return agentAway === undefined ? table : `${paint(`${agentAway}: from its records`, 'poor')}\n${table}`;
}

export async function lookAtPods(look: Look): Promise<PodsAnswer> {
  const { pods, why } = await look.pods();
  const troubles = await look.podTroubles();
  return {
    version: 1,
    agentAway: why,
    pods: pods.map((pod) => ({ ...pod, troubles: troubles.get(pod) ?? [] })),
  };
}

/** `twill pods` */
export async function showPods(flags: PodsFlags): Promise<void> {
  const { cniSocket: socket = flags.socket, proxySocket } = flags;
  await show(flags, {
    look: () => looking({ socket, proxySocket }, lookAtPods),
    table: (answer, screen) => podTable(answer, wallClockMs(), screen),
    exitStatus: ({ pods }) => (pods.some(({ troubles }) => troubles.length > 0) ? 1 : 0),
  });
}
