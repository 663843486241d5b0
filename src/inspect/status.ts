import { describeError } from '../model/error.ts';
import { fullTables, neighbourTables, permanentNeighbours } from '../overlay/neighbour-tables.ts';
import { agentDifferences, type Compared } from './differences.ts';
import { entranceProblems } from './entrances.ts';
import { conntrackProblems, reversePathProblems, variantProblems, wallProblems } from './environment.ts';
import { type Look, looking } from './look.ts';
import { type InspectFlags, show } from './output.ts';
import { countByKind } from './plan/difference.ts';
import { meshAnswer, meshNotes } from './plan/mesh.ts';
import { differenceProblems, type Problem, summaryOf, verdictOf, verdictStatus } from './plan/problem.ts';
import { absenceProblems, checkProblems, serviceProblems } from './plan/process-problems.ts';
import type { AgentState, ProxyState } from './plan/state.ts';
import type { ProcessAnswer, StatusAnswer } from './plan/status.ts';
import type { Known } from './states.ts';
import { statusTable } from './status-table.ts';
import { readVersions } from './versions.ts';

function processAnswer({ state, live, why }: Known<AgentState | ProxyState>): ProcessAnswer {
  return { answers: live, why, at: state?.at, loops: state?.loops ?? [] };
}

function leaseAnswer({ own, source }: AgentState): StatusAnswer['lease'] {
  if (own === undefined) return undefined;
  return {
    name: own.name,
    subnets: own.families.map(({ subnet }) => subnet.text),
    expires: source.leaseExpires,
    source: `${source.kind} at ${source.place}`,
    sourceConnected: source.connected,
  };
}

function networkAnswer({ network, underlay, podMtu }: AgentState): StatusAnswer['network'] {
  if (network === undefined || underlay === undefined) return undefined;
  const { backend } = network;
  const isVxlan = backend.type === 'vxlan';
  const configured = isVxlan && backend.mtu !== undefined ? `, Backend.MTU is ${backend.mtu}` : '';
  return {
    backend: isVxlan
      ? `vxlan, VNI ${backend.vni}, UDP port ${backend.port}${backend.directRouting ? ', DirectRouting' : ''}`
      : backend.type,
    networks: network.families.map((one) => one.network.text),
    interface: underlay.name,
    interfaceWhy: underlay.why,
    addresses: [...underlay.addresses.values()].map(({ text }) => text),
    mtu: underlay.mtu,
    podMtu,
    mtuWhy: `${underlay.name} and the ways to the nodes carry ${underlay.mtu}${configured}${isVxlan ? ', less what VXLAN puts around a packet' : ''}`,
  };
}

function proxyAnswer(known: Known<ProxyState>): StatusAnswer['proxy'] {
  const { state } = known;
  if (state === undefined) return undefined;
  const { mode, modeWhy, source, ready, services, nftables } = state;
  const families = [...state.families, ...nftables.map((family) => ({ ...family, variant: 'nft' }))];
  return {
    ...processAnswer(known),
    mode,
    modeWhy,
    source,
    ready,
    services,
    families: families.map(({ family, variant, sinceWrittenSeconds, refused }) => ({
      family,
      variant,
      sinceWrittenSeconds,
      refused: refused.length,
    })),
  };
}

function rulesAnswer({ rules: { tool, why } }: AgentState): StatusAnswer['rules'] {
  return tool === undefined || why === undefined ? undefined : { tool, why };
}

/** Of both processes, by kind. */
function repairsAnswer(
  agent: AgentState | undefined,
  proxy: ProxyState | undefined,
): StatusAnswer['repairs'] {
  const repairs = proxy?.repairs;
  return { ...agent?.repairs, ...(repairs === undefined ? {} : { 'service rules': repairs }) };
}

async function environment(state: AgentState): Promise<Problem[]> {
  const families = state.network?.families.map(({ family }) => family) ?? [];
  const permanent = permanentNeighbours(state.network?.backend, state.leases, ({ text }) =>
    state.paths.some(({ onLink }) => onLink.has(text)),
  );
  const parts = await Promise.all([
    wallProblems(state),
    variantProblems(families),
    reversePathProblems(state),
    conntrackProblems(),
    fullTables(neighbourTables(), permanent).map(
      ({ detail: what, name: area }): Problem => ({ severity: 'degraded', area, what }),
    ),
  ]);
  return parts.flat();
}

async function serviceTroubles(look: Look): Promise<Problem[]> {
  try {
    return serviceProblems(await look.services());
  } catch (error) {
    return [{ severity: 'note', area: 'services', what: `Services are not known: ${describeError(error)}` }];
  }
}

/** The status, and what it has compared for it. */
export interface StatusLook {
  readonly answer: StatusAnswer;
  readonly compared: Compared;
}

export async function lookAtNode(look: Look): Promise<StatusLook> {
  const [agent, proxy] = await Promise.all([look.agent(), look.proxy()]);
  const { state } = agent;
  const [compared, around, services, entrances, versions] = await Promise.all([
    agentDifferences(look),
    state === undefined ? [] : environment(state),
    serviceTroubles(look),
    entranceProblems(proxy),
    readVersions(state?.process.version, proxy.state?.process.version),
  ]);
  const peers = Math.max(0, (state?.leases.length ?? 0) - (state?.own === undefined ? 0 : 1));
  const problems = [
    ...absenceProblems(agent, proxy),
    ...differenceProblems(compared.differences, peers),
    ...(agent.live && state !== undefined ? [...checkProblems(state), ...meshNotes(state)] : []),
    ...around,
    ...entrances,
    ...compared.unknown.map((what): Problem => ({ severity: 'note', area: 'unknown', what })),
    ...services,
  ];
  const node = state?.node ?? proxy.state?.node ?? 'this node';
  const answer: StatusAnswer = {
    version: 1,
    verdict: verdictOf(problems),
    summary: summaryOf(node, problems),
    node,
    problems,
    agent: processAnswer(agent),
    rules: state && rulesAnswer(state),
    proxy: proxyAnswer(proxy),
    lease: state && leaseAnswer(state),
    network: state && networkAnswer(state),
    peers: { count: peers, skipped: state?.skipped ?? [] },
    mesh: state && meshAnswer(state),
    addresses: state?.addresses ?? [],
    repairs: repairsAnswer(state, proxy.state),
    drift: Object.fromEntries(countByKind(compared.differences)),
    versions,
  };
  return { answer, compared };
}

/** `twill status` */
export async function showStatus(flags: InspectFlags): Promise<void> {
  await show(flags, {
    look: () => looking(flags, async (look) => (await lookAtNode(look)).answer),
    table: statusTable,
    exitStatus: ({ verdict }) => verdictStatus[verdict],
  });
}
