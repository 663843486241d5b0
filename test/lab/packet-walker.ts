/** Walks a new connection's first packet through rules, as `twill trace` does, and says everywhere it may end. */
import type { Outcome, Surroundings } from '../../src/inspect/trace/plan/chains.ts';
import { iptablesChains, type RuleSet, ruleSet, walkHook } from '../../src/inspect/trace/plan/hooks.ts';
import { parseSavedTables } from '../../src/inspect/trace/plan/iptables-rules.ts';
import { isWithin, type MaskedAddress, parseMasked } from '../../src/inspect/trace/plan/packet.ts';
import { begin, type State, withPacket } from '../../src/inspect/trace/plan/state.ts';
import { ipv4, ipv6 } from '../../src/model/address.ts';
import type { SimulatedIptables } from './simulated-iptables.ts';

export interface Packet {
  readonly source: string;
  readonly destination: string;
  readonly protocol: 'tcp' | 'udp' | 'sctp';
  readonly port: number;
  /** The node itself sends it. */
  readonly fromNode: boolean;
}

/** Where a packet ends: `ADDRESS:PORT`, with ` masqueraded` behind it; or `dropped`, `rejected`. */
export type Ending = string;

export interface World {
  readonly rules: RuleSet;
  readonly surroundings: Surroundings;
  /** The node's own addresses. */
  readonly local: ReadonlySet<string>;
}

/** Networks as they were read. */
const networks = new Map<string, MaskedAddress & { readonly v6: boolean }>();

export function inNetwork(address: string, text: string): boolean {
  let network = networks.get(text);
  if (network === undefined) {
    network = { ...parseMasked(text), v6: text.includes(':') };
    networks.set(text, network);
  }
  return address.includes(':') === network.v6 && isWithin(address, network);
}

/** @param saved what iptables-save prints @param local the node's own addresses */
export function worldOf(saved: string, local: ReadonlySet<string>): World {
  const rules = ruleSet(iptablesChains(parseSavedTables(saved, 'iptables-nft')), []);
  const surroundings: Surroundings = {
    addressType: (address) => (local.has(address) ? 'LOCAL' : 'UNICAST'),
    // What the kernel remembers of clients is not asked: both ways are walked.
    recent: () => undefined,
    element: () => undefined,
    ipset: () => undefined,
    masqueradeAddress: () => [...local][0],
  };
  return { rules, surroundings, local };
}

/** @param forwards the policy of FORWARD */
export function simulatedWorld(
  rules: SimulatedIptables,
  local: ReadonlySet<string>,
  forwards: 'ACCEPT' | 'DROP' = 'ACCEPT',
): World {
  const saved = Object.keys(rules.tables).map((table) => `*${table}\n${rules.save(table)}`);
  return worldOf(saved.join('\n').replace(/^:FORWARD -/m, `:FORWARD ${forwards}`), local);
}

/**
 * The hooks behind the first: what the node sends to itself leaves by the loopback device and comes in again. As in
 * kube-proxy's tests POSTROUTING is walked for what comes to the node itself, too, where the kernel has no need of it.
 */
function* hooksOf(fromNode: boolean, isLocal: boolean) {
  if (isLocal && fromNode) yield* ['postrouting', 'input'] as const;
  else if (isLocal) yield* ['input', 'postrouting'] as const;
  else yield* fromNode ? (['postrouting'] as const) : (['forward', 'postrouting'] as const);
}

/** All the places a new connection's first packet may end, sorted; one entry each. */
export function walk({ fromNode, ...packet }: Packet, { rules, surroundings, local }: World): Ending[] {
  const endings = new Set<Ending>();
  const passed = (hook: Parameters<typeof walkHook>[1], states: readonly State[]): State[] =>
    states.flatMap((state) =>
      walkHook({ where: 'node', rules, surroundings }, hook, state).flatMap(
        ({ state: next, verdict }: Outcome) => {
          if (verdict === 'accept') return [next];
          endings.add(verdict === 'drop' ? 'dropped' : 'rejected');
          return [];
        },
      ),
    );
  const devices = fromNode ? { outDevice: 'eth0' } : { inDevice: 'eth0', outDevice: undefined };
  const first = {
    ...packet,
    ...devices,
    family: packet.source.includes(':') ? ipv6 : ipv4,
    sourcePort: undefined,
    mark: 0,
    tracking: undefined,
  };
  for (const entered of passed(fromNode ? 'output' : 'prerouting', [begin({ ...first, opening: true })])) {
    let open = [entered];
    for (const hook of hooksOf(fromNode, local.has(entered.packet.destination)))
      open = passed(
        hook,
        hook === 'input' && fromNode ? open.map((state) => withPacket(state, { inDevice: 'lo' })) : open,
      );
    for (const { packet: last } of open)
      endings.add(`${last.destination}:${last.port}${last.tracking?.snat === true ? ' masqueraded' : ''}`);
  }
  return [...endings].sort();
}
