import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { encodeStatePieces } from '../inspect/plan/codec.ts';
import { loopState } from '../inspect/plan/loop-state.ts';
import { type AgentState, type PathState, STATE_VERSION } from '../inspect/plan/state.ts';
import type { Lease } from '../leases/plan/lease.ts';
import type { NetworkConfig } from '../leases/plan/network-config.ts';
import type { FamilyPath } from '../overlay/plan/peer.ts';
import { capacity } from '../pods/plan/address.ts';
import { isoTime, wallClockMs } from '../process/clock.ts';
import { type Mark, ownMark } from '../process/mark.ts';
import { version } from '../process/version.ts';
import type { AgentConfig } from './config.ts';
import { checks } from './health.ts';
import type { AgentParts } from './parts.ts';
import { repairCounts } from './repairs.ts';

/** What the state is made of. */
export interface StateSubject {
  readonly config: AgentConfig;
  readonly parts: AgentParts;
  /** The network configuration in force. */
  readonly network: NetworkConfig | undefined;
  /** How often the source has told of a change. */
  readonly changes: number;
}

let mark: Mark | undefined;

function pathState(path: FamilyPath, leases: ReadonlyMap<string, Lease>): PathState {
  const onLink = new Map<string, number>();
  for (const lease of leases.values())
    for (const { family, publicIp } of lease.families) {
      const device = family === path.family ? path.onLink(publicIp) : undefined;
      if (device !== undefined) onLink.set(publicIp.text, device);
    }
  return { ...path, onLink };
}

function sourceState({ config, parts: { source } }: StateSubject): AgentState['source'] {
  const { connected, lastError, leaseError, configError, from } = source.status();
  const left = source.leaseSecondsLeft();
  return {
    kind: config.kubeSubnetManager ? 'kubernetes' : 'etcd',
    place: config.kubeSubnetManager
      ? (from ?? config.kubeApiUrl ?? config.kubeConfigFile ?? 'the service account of the pod')
      : config.etcdEndpoints.join(','),
    connected,
    lastError,
    leaseError: leaseError ?? configError,
    leaseExpires: left === undefined ? undefined : isoTime(wallClockMs() + left * 1000),
  };
}

function addressState({ overlay, cni }: AgentParts): AgentState['addresses'] {
  const state = overlay?.podNetwork();
  if (state?.ready !== true) return [];
  const given = (cni?.pods() ?? []).flatMap(({ addresses }) => addresses);
  return state.network.families.map((network) => ({
    family: network.family.name,
    used: given.filter(({ address }) => address.includes(':') === (network.family.name === 'ipv6')).length,
    size: Number(capacity(network)),
  }));
}

/** Everything that an inspection command has to know of this agent. */
export function agentState(subject: StateSubject): AgentState {
  const { config, parts, network } = subject;
  const { source, overlay, masquerade, peerFilter, mesh, changes } = parts;
  const now = wallClockMs();
  const pods = overlay?.podNetwork();
  const leases = source.leases();
  const loops = [overlay, masquerade, peerFilter, mesh, changes].flatMap((part) => part?.loop.status() ?? []);
  mark ??= ownMark();
  return {
    version: STATE_VERSION,
    kind: 'agent',
    at: isoTime(now),
    process: { ...mark, version },
    node: process.env.NODE_NAME ?? hostname(),
    loops: loops.map((status) => loopState(status, (ms) => isoTime(ms))),
    settings: {
      stateDir: config.stateDir,
      bridge: config.bridge,
      subnetFile: config.subnetFile,
      cniConfDir: config.cniConfDir,
      ipMasq: config.ipMasq,
      vxlanPeersOnly: config.vxlanPeersOnly,
    },
    source: sourceState(subject),
    network,
    own: source.own(),
    underlay: overlay?.underlay(),
    podMtu: pods?.ready === true ? pods.network.mtu : undefined,
    leases: [...leases.values()],
    skipped: overlay?.peers.skipped ?? [],
    paths: (overlay?.peers.input?.paths ?? []).map((path) => pathState(path, leases)),
    ground: overlay?.peers.input?.ground,
    devices: overlay?.vteps.plans() ?? [],
    rules: {
      ...(masquerade?.state() ?? { nftables: false, wanted: [], variants: new Map(), shown: new Map() }),
      tool: parts.rules.current?.mode,
      why: parts.rules.current?.reason,
    },
    addresses: addressState(parts),
    repairs: repairCounts(parts),
    mesh: mesh?.state(),
    meshPartners: mesh?.partners() ?? [],
    checks: checks(parts),
  };
}

/** Has every loop look at the kernel now, and resolves when all have, or some do not get to it. */
async function repair({ overlay, masquerade, peerFilter, cni }: AgentParts, waitMs: number): Promise<string> {
  const loops = [overlay, masquerade, peerFilter].flatMap((part) => part?.loop ?? []);
  const all = Promise.all([...loops.map((loop) => loop.settled()), cni?.repair()]);
  const done = all.then(
    () => 'done',
    () => 'late',
  );
  masquerade?.lookAgain();
  for (const loop of loops) loop.trigger('asked for by an operator', true);
  const settled = (await Promise.race([done, sleep(waitMs, 'late', { ref: false })])) !== 'late';
  return JSON.stringify({ version: STATE_VERSION, settled });
}

const REPAIR_WAIT_MS = 10_000;

/** Answers what inspection commands ask; undefined for what is no question of theirs. */
export async function answerQuestion(question: string, subject: StateSubject): Promise<string | undefined> {
  // A copy of all of it at once would be the peak of this process's memory, where there are thousands of nodes.
  if (question === 'state') return Buffer.concat([...encodeStatePieces(agentState(subject))]).toString();
  if (question === 'repair') return await repair(subject.parts, REPAIR_WAIT_MS);
  return undefined;
}
