import { type Outcome, type Surroundings, type Table, type Verdict, walkChain } from './chains.ts';
import type { SavedTable } from './iptables-rules.ts';
import type { Ends, Packet } from './packet.ts';
import { type State, withPacket, withStep } from './state.ts';

/** Where the kernel hands packets to rules. */
export type Hook = 'prerouting' | 'input' | 'forward' | 'output' | 'postrouting';

/** A chain that a hook begins with. */
export interface BaseChain {
  readonly table: Table;
  readonly chain: string;
  readonly priority: number;
  readonly isNat: boolean;
  readonly policy: Verdict;
}

/** All rules of one namespace and family: what each hook walks, in the kernel's order. */
export interface RuleSet {
  readonly hooks: Readonly<Record<Hook, readonly BaseChain[]>>;
  /** What of it is not walked. */
  readonly unread: readonly string[];
  /** What of it could not be read, and why: nobody knows what stands there. */
  readonly failures: readonly string[];
}

/** Priorities of the hooks (enum nf_ip_hook_priorities). */
const TRACKING = -200;
const TRANSLATE_DESTINATION = -100;
const TRANSLATE_SOURCE = 100;

const iptablesPlaces: readonly { table: string; hooks: readonly Hook[]; priority: number }[] = [
  { table: 'raw', hooks: ['prerouting', 'output'], priority: -300 },
  { table: 'mangle', hooks: ['prerouting', 'input', 'forward', 'output', 'postrouting'], priority: -150 },
  { table: 'nat', hooks: ['prerouting', 'output'], priority: TRANSLATE_DESTINATION },
  { table: 'nat', hooks: ['input', 'postrouting'], priority: TRANSLATE_SOURCE },
  { table: 'filter', hooks: ['input', 'forward', 'output'], priority: 0 },
  { table: 'security', hooks: ['input', 'forward', 'output'], priority: 50 },
];

/** What iptables' tables add to each hook. */
export function iptablesChains(
  tables: readonly SavedTable[],
): { readonly hook: Hook; readonly base: BaseChain }[] {
  return tables.flatMap((table) =>
    iptablesPlaces
      .filter((place) => place.table === table.name)
      .flatMap(({ hooks, priority }) =>
        hooks.flatMap((hook) => {
          const chain = hook.toUpperCase();
          if (!table.lines.has(chain)) return [];
          const policy = table.policies.get(chain) ?? 'accept';
          return [{ hook, base: { table, chain, priority, isNat: table.name === 'nat', policy } }];
        }),
      ),
  );
}

export function ruleSet(
  chains: readonly { readonly hook: Hook; readonly base: BaseChain }[],
  unread: readonly string[],
  failures: readonly string[] = [],
): RuleSet {
  const of = (hook: Hook): BaseChain[] =>
    chains
      .filter((one) => one.hook === hook)
      .map(({ base }) => base)
      .sort((a, b) => a.priority - b.priority);
  const hooks = {
    prerouting: of('prerouting'),
    input: of('input'),
    forward: of('forward'),
    output: of('output'),
    postrouting: of('postrouting'),
  };
  return { hooks, unread, failures };
}

const samePort = (a: number | undefined, b: number | undefined): boolean =>
  a === undefined || b === undefined || a === b;

function isSame(a: Ends, b: Ends): boolean {
  const addresses = a.source === b.source && a.destination === b.destination;
  return addresses && samePort(a.sourcePort, b.sourcePort) && samePort(a.port, b.port);
}

const endsOf = ({ source, sourcePort, destination, port }: Packet): Ends => ({
  source,
  sourcePort,
  destination,
  port,
});

const reversed = ({ source, sourcePort, destination, port }: Ends): Ends => ({
  source: destination,
  sourcePort: port,
  destination: source,
  port: sourcePort,
});

/** What connection tracking makes of a packet that comes to it. */
function track(state: State, where: string): State {
  const { packet, connections } = state;
  if (packet.tracking !== undefined) return state;
  const known = connections.find((one) => one.where === where && isSame(one.reply, packet));
  const first = connections.find((one) => one.where === where && isSame(one.original, packet));
  const found = known ?? first;
  const isNew = found === undefined;
  // The answer to a connection that is not known begins none (TCP), or looks as if it did.
  const unknown = packet.opening || packet.protocol !== 'tcp' ? 'new' : 'invalid';
  return withPacket(state, {
    tracking: {
      state: isNew ? unknown : 'established',
      direction: known === undefined ? 'original' : 'reply',
      dnat: found !== undefined && found.reply.source !== found.original.destination,
      snat: found !== undefined && found.reply.destination !== found.original.source,
      mark: found?.mark ?? 0,
      original: found?.original ?? endsOf(packet),
    },
  });
}

/** Answers are translated back where the kernel translates what is new. */
function translateBack(state: State, hook: Hook, where: string): State {
  const { packet } = state;
  const { tracking } = packet;
  if (tracking?.state !== 'established' || tracking.direction !== 'reply') return state;
  const { original } = tracking;
  const isDestination = hook === 'prerouting' || hook === 'output';
  const change = isDestination
    ? { destination: original.source, port: original.sourcePort }
    : { source: original.destination, sourcePort: original.port };
  const before = isDestination ? packet.destination : packet.source;
  const after = isDestination ? change.destination : change.source;
  if (before === after) return state;
  const text = isDestination
    ? `known connection: the destination ${before} is translated back to ${after}`
    : `known connection: the source ${before} is translated back to ${after}`;
  return withStep(withPacket(state, change), { where, kind: 'translate', text });
}

/** Writes a connection down whose first packet has got through. */
function confirm(state: State, where: string): State {
  const { packet, connections } = state;
  if (packet.tracking?.state !== 'new') return state;
  if (connections.some((one) => one.where === where && isSame(one.original, packet.tracking!.original)))
    return state;
  const { original, mark } = packet.tracking;
  const connection = { where, original, reply: reversed(endsOf(packet)), mark };
  return { ...state, connections: [...connections, connection] };
}

/** Whether a chain for translation looks at this packet at all: at the first of a connection, and once. */
function translates({ tracking }: Packet, hook: Hook): boolean {
  if (tracking?.state !== 'new') return false;
  return hook === 'prerouting' || hook === 'output' ? !tracking.dnat : !tracking.snat;
}

export interface HookWalk {
  readonly where: string;
  readonly rules: RuleSet;
  readonly surroundings: Surroundings;
  /** The connection is written down already: what the namespace sends to itself comes in a second time. */
  readonly again?: boolean;
}

/** A step of the hook that is no chain. */
interface Stage {
  readonly priority: number;
  readonly run: (state: State) => Outcome[];
}

function chainStage(walk: HookWalk, hook: Hook, base: BaseChain): Stage {
  const { where, surroundings } = walk;
  const run = (state: State): Outcome[] => {
    if (base.isNat && (walk.again === true || !translates(state.packet, hook)))
      return [{ state, verdict: 'accept' }];
    return walkChain({ table: base.table, where, surroundings }, base.chain, state).map((outcome) => {
      if (outcome.verdict !== undefined || base.policy === 'accept') return outcome;
      return { state: withStep(outcome.state, policyStep(where, base)), verdict: base.policy };
    });
  };
  return { priority: base.priority, run };
}

function policyStep(where: string, { table, chain, policy }: BaseChain): Parameters<typeof withStep>[1] {
  const rule = `policy ${policy}`;
  return { where, kind: 'policy', text: rule, program: table.program, table: table.name, chain, rule };
}

/** Everything that one hook may make of a packet: what passes has the verdict `accept`. */
export function walkHook(walk: HookWalk, hook: Hook, start: State): Outcome[] {
  const { where } = walk;
  const pass =
    (change: (state: State) => State) =>
    (state: State): Outcome[] => [{ state: change(state), verdict: 'accept' }];
  const entry = hook === 'prerouting' || hook === 'output';
  const back = entry ? TRANSLATE_DESTINATION : TRANSLATE_SOURCE;
  const stages: Stage[] = [
    ...(entry ? [{ priority: TRACKING, run: pass((state) => track(state, where)) }] : []),
    ...(hook === 'forward'
      ? []
      : [{ priority: back, run: pass((state) => translateBack(state, hook, where)) }]),
    ...walk.rules.hooks[hook].map((base) => chainStage(walk, hook, base)),
  ];
  stages.sort((a, b) => a.priority - b.priority);
  let open: State[] = [start];
  const ended: Outcome[] = [];
  for (const stage of stages) {
    const next: State[] = [];
    for (const state of open)
      for (const outcome of stage.run(state))
        if (outcome.verdict === 'drop' || outcome.verdict === 'reject') ended.push(outcome);
        else next.push(outcome.state);
    open = next;
  }
  const last = hook === 'input' || hook === 'postrouting';
  return [
    ...ended,
    ...open.map((state) => ({ state: last ? confirm(state, where) : state, verdict: 'accept' as const })),
  ];
}
