/**
 * Chains of rules, whoever keeps them: iptables' and nft's are both read into these. A rule is a list of statements, each
 * of which says what becomes of a packet; where chance or something unknown decides there are several answers.
 */
import { type State, type Step, withDoubt, withStep } from './state.ts';

export type Verdict = 'accept' | 'drop' | 'reject';

/** What a statement makes of a packet. */
export type Effect =
  /** The rule goes on. */
  | { readonly kind: 'next'; readonly state: State }
  /** The rule does not apply: the next one is looked at. */
  | { readonly kind: 'skip'; readonly state: State }
  | { readonly kind: 'return'; readonly state: State }
  | { readonly kind: 'verdict'; readonly verdict: Verdict; readonly state: State }
  | { readonly kind: 'jump' | 'goto'; readonly chain: string; readonly state: State };

/** What rules ask about the namespace that they stand in. */
export interface Surroundings {
  /** What the routing tables call an address: `LOCAL`, `UNICAST`, `BROADCAST`, `MULTICAST`, … */
  addressType(address: string): string;
  /** The entry of a set or map for a key; undefined where it has none. */
  element(set: string, key: readonly string[]): SetElement | undefined;
  /** The address that a packet gets that is masqueraded on its way out by a device. */
  masqueradeAddress(device: string | undefined, packet: State['packet']): string | undefined;
  /** Clients that a list of xt_recent holds; undefined where it cannot be read. */
  recent(list: string): readonly string[] | undefined;
  /** Whether an ipset holds an address (and port); undefined where it cannot be told. */
  ipset(name: string, entry: string): boolean | undefined;
}

/** An element of nft's sets and maps. */
export interface SetElement {
  /** What a map leads to, as nft prints it. */
  readonly value: string | undefined;
}

export type Statement = (state: State, surroundings: Surroundings) => readonly Effect[];

export interface Rule {
  /** As its program prints it, without what says where it stands. */
  readonly text: string;
  readonly comment: string | undefined;
  readonly packets: number | undefined;
  readonly statements: readonly Statement[];
}

export interface Table {
  readonly program: NonNullable<Step['program']>;
  /** With the family in front where it is nft's: `inet filter`. */
  readonly name: string;
  /** The rules of a chain; undefined when there is none of that name. */
  readonly rules: (chain: string) => readonly Rule[] | undefined;
}

/** Where a packet got to: a verdict, or the end of the chain (undefined). */
export interface Outcome {
  readonly state: State;
  readonly verdict: Verdict | undefined;
}

export interface Walk {
  readonly table: Table;
  readonly where: string;
  readonly surroundings: Surroundings;
}

/** The kernel takes no loops; what is read while somebody changes it may have one. */
const DEEPEST = 64;

function ruleStep({ table, where }: Walk, chain: string, rule: Rule): Step {
  return {
    where,
    kind: 'rule',
    text: rule.text,
    program: table.program,
    table: table.name,
    chain,
    rule: rule.text,
    ...(rule.comment === undefined ? {} : { comment: rule.comment }),
    ...(rule.packets === undefined ? {} : { packets: rule.packets }),
  };
}

/** What one rule makes of a packet: ways that end, that leave the chain, and that go on to the next rule. */
interface RuleOutcome {
  readonly ended: Outcome[];
  readonly left: State[];
  readonly onward: State[];
}

class ChainWalk {
  private readonly walk: Walk;
  private readonly chain: string;
  private readonly depth: number;

  constructor(walk: Walk, chain: string, depth: number) {
    this.walk = walk;
    this.chain = chain;
    this.depth = depth;
  }

  run(start: State): Outcome[] {
    let open: State[] = [start];
    const ended: Outcome[] = [];
    for (const rule of this.walk.table.rules(this.chain) ?? []) {
      const still: State[] = [];
      for (const state of open) {
        const outcome = this.rule(rule, state);
        ended.push(...outcome.ended, ...outcome.left.map((left) => ({ state: left, verdict: undefined })));
        still.push(...outcome.onward);
      }
      open = still;
      if (open.length === 0) break;
    }
    return [...ended, ...open.map((state) => ({ state, verdict: undefined }))];
  }

  private rule(rule: Rule, start: State): RuleOutcome {
    const out: RuleOutcome = { ended: [], left: [], onward: [] };
    let open: State[] = [start];
    for (const statement of rule.statements) {
      const next: State[] = [];
      for (const state of open)
        for (const effect of statement(state, this.walk.surroundings))
          if (effect.kind === 'next') next.push(effect.state);
          else this.leave(rule, effect, out);
      open = next;
    }
    // Whatever it changed is worth telling; that it matched and changed nothing is not.
    const isIdle = (state: State): boolean => state.packet === start.packet && state.trail === start.trail;
    if (out.ended.length + out.left.length === 0 && [...open, ...out.onward].every(isIdle))
      return { ...out, onward: [start] };
    for (const state of open) out.onward.push(state.packet === start.packet ? state : this.told(rule, state));
    return out;
  }

  private told(rule: Rule, state: State): State {
    return withStep(state, ruleStep(this.walk, this.chain, rule));
  }

  private leave(rule: Rule, effect: Exclude<Effect, { kind: 'next' }>, out: RuleOutcome): void {
    switch (effect.kind) {
      case 'skip':
        out.onward.push(effect.state);
        return;
      case 'return':
        out.left.push(effect.state);
        return;
      case 'verdict':
        out.ended.push({ state: this.told(rule, effect.state), verdict: effect.verdict });
        return;
      default:
        this.follow(rule, effect, out);
    }
  }

  private follow(rule: Rule, effect: Effect & { chain: string }, out: RuleOutcome): void {
    const entered = this.told(rule, effect.state);
    const outcomes =
      this.depth >= DEEPEST
        ? [{ state: entered, verdict: undefined }]
        : new ChainWalk(this.walk, effect.chain, this.depth + 1).run(entered);
    for (const { state, verdict } of outcomes) {
      if (verdict !== undefined) out.ended.push({ state, verdict });
      else {
        // A chain in which nothing happened is no step.
        const quiet = state.trail === entered.trail ? { ...state, trail: effect.state.trail } : state;
        (effect.kind === 'goto' ? out.left : out.onward).push(quiet);
      }
    }
  }
}

/** Everything that a chain may make of a packet. */
export function walkChain(walk: Walk, chain: string, start: State): Outcome[] {
  return new ChainWalk(walk, chain, 0).run(start);
}

/**
 * A statement that lets through, or not. `unknown` names what decides: both ways are walked. `negated`: it lets through
 * where that does not hold.
 */
export type Match = boolean | { readonly unknown: string; readonly negated?: boolean };

export function matching(match: (state: State, surroundings: Surroundings) => Match): Statement {
  return (state, surroundings) => {
    const result = match(state, surroundings);
    if (result === true) return [{ kind: 'next', state }];
    if (result === false) return [{ kind: 'skip', state }];
    const ways = bothWays(state, result.unknown);
    return result.negated === true ? ways.map(opposite) : ways;
  };
}

type Way = Extract<Effect, { kind: 'next' | 'skip' }>;

const opposite = ({ kind, state }: Way): Way => ({ kind: kind === 'next' ? 'skip' : 'next', state });

/** Both ways, each under its condition. */
export function bothWays(state: State, condition: string): Way[] {
  const holds = `if ${condition}`;
  const fails = `unless ${condition}`;
  // What was supposed before holds for the rest of the way.
  if (state.doubts.includes(holds)) return [{ kind: 'next', state }];
  if (state.doubts.includes(fails)) return [{ kind: 'skip', state }];
  return [
    { kind: 'next', state: withDoubt(state, holds) },
    { kind: 'skip', state: withDoubt(state, fails) },
  ];
}
