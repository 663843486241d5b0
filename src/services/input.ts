import { type Address, parseAddress } from '../model/address.ts';
import { wallClockMs } from '../process/clock.ts';
import { type Log, LogLimiter } from '../process/log.ts';
import type { EndpointSlice, NodeFacts, Service } from './plan/service.ts';
import type { NodeView } from './plan/table.ts';
import { type ObjectChange, ServiceTracker } from './plan/tracker.ts';
import type { ObjectKind, ServiceSink } from './sources/source.ts';

/** A source that does not get to see nodes (it may lack the right) holds up the first rules for so long. */
const NODE_WAIT_MS = 3000;

type NodePart = 'addresses' | 'podCIDRs';

export interface ProxyInputOptions {
  readonly nodeName: string;
  /** The node's address, over what its Node says of that family. */
  readonly bindAddress?: Address | undefined;
  readonly log: Log;
  /** What rules cannot do without of this node's Node object: before it is there none are written. */
  readonly needs: readonly NodePart[];
  /** Something changed; not called before the first full lists are there. */
  readonly onChange: (reason: string) => void;
  /** This node's addresses or pod networks, as its Node object says them, changed. */
  readonly onNode: () => void;
  readonly onSkipped: () => void;
}

/** Names of objects come from outside: in a log they must not look like lines of their own. */
function printable(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, '?');
}

/**
 * Addresses and pod networks stay what they were when the Node is gone, or comes back without them: it is about to be
 * made anew, and kube-proxy, which ends then, leaves its rules as they are, too.
 */
function lasting(seen: NodeFacts | undefined, before: NodeFacts | undefined): NodeFacts | undefined {
  if (before === undefined) return seen;
  const part = (name: NodePart): readonly string[] => (seen?.[name].length ? seen : before)[name];
  return {
    zone: seen?.zone,
    leaving: seen?.leaving === true,
    addresses: part('addresses'),
    podCIDRs: part('podCIDRs'),
  };
}

const nothing: NodeFacts = { zone: undefined, addresses: [], podCIDRs: [], leaving: false };

/** Takes what a source reports and keeps it: the tracker, and what is known of this node. */
export class ProxyInput implements ServiceSink {
  readonly tracker = new ServiceTracker(wallClockMs());
  private readonly options: ProxyInputOptions;
  private readonly listed = new Set<ObjectKind>();
  private readonly limiter = new LogLimiter();
  private known: NodeFacts | undefined;
  private alike: readonly string[] = [];
  private nodeListed = false;
  private asked = false;
  private timer: NodeJS.Timeout | undefined;

  constructor(options: ProxyInputOptions) {
    this.options = options;
  }

  get facts(): NodeFacts | undefined {
    const { bindAddress } = this.options;
    if (bindAddress === undefined) return this.known;
    const { addresses, ...facts } = this.known ?? nothing;
    const others = addresses.filter((text) => parseAddress(text).family !== bindAddress.family);
    return { ...facts, addresses: [bindAddress.text, ...others] };
  }

  get view(): NodeView {
    return { name: this.options.nodeName, zone: this.known?.zone };
  }

  replace(kind: ObjectKind, values: readonly (Service | EndpointSlice)[]): void {
    this.tracker.replace(kind, values);
    this.listed.add(kind);
    this.changed(`${kind} list`);
  }

  change(change: ObjectChange): void {
    this.tracker.apply(change);
    this.changed(change.kind);
  }

  /** The source knows its nodes, and this one has never been among them. */
  get nodeMissing(): boolean {
    return this.asked && this.known === undefined;
  }

  nodeUnknown(like: readonly string[]): void {
    this.alike = like.map(printable);
    const { nodeName } = this.options;
    this.options.log.error({ node: nodeName, like: this.alike }, 'no Node has this name');
  }

  /** What is wrong with this node's name, and what to do; undefined when a Node has it. */
  get nodeProblem(): string | undefined {
    if (!this.nodeMissing) return undefined;
    const like = this.alike.length === 0 ? '' : `; names like it: ${this.alike.join(', ')}`;
    return `no Node is called '${this.options.nodeName}', so no endpoint counts as here${like}: --hostname-override says the name`;
  }

  /** What the first rules wait for; undefined when it is there. */
  get waitingFor(): string | undefined {
    const lists = { service: 'Services', slice: 'EndpointSlices' } as const;
    const unlisted = (['service', 'slice'] as const).filter((kind) => !this.listed.has(kind));
    if (unlisted.length > 0)
      return `the first full list of ${unlisted.map((kind) => lists[kind]).join(' and ')}`;
    if (this.nodeListed) return undefined;
    const node = `the Node '${this.options.nodeName}'`;
    const missing = this.options.needs.filter((part) => !this.known?.[part].length);
    const problem = this.nodeProblem;
    if (problem !== undefined) return `${node}: ${problem}`;
    return this.known === undefined || missing.length === 0 ? node : `${missing.join(' and ')} of ${node}`;
  }

  node(seen: NodeFacts | undefined): void {
    const before = this.known;
    this.asked = true;
    const isFirst = !this.nodeListed;
    const facts = lasting(seen, before);
    this.known = facts;
    const { needs } = this.options;
    this.nodeListed ||= needs.every((part) => facts !== undefined && facts[part].length > 0);
    const moved = facts?.zone !== before?.zone;
    const renumbered =
      `${facts?.addresses} ${facts?.podCIDRs}` !== `${before?.addresses} ${before?.podCIDRs}`;
    if (moved) this.tracker.touchAll();
    if (renumbered) this.options.onNode();
    // The kubelet writes into its Node all the time.
    if (isFirst || moved || renumbered) this.changed('node');
  }

  skipped(where: string, problem: string): void {
    this.options.onSkipped();
    const suppressed = this.limiter.allow(`${where} ${problem}`);
    if (suppressed === undefined) return;
    const fields = { where: printable(where), problem: printable(problem), suppressed };
    this.options.log.warn(fields, 'left out');
  }

  stop(): void {
    clearTimeout(this.timer);
  }

  private changed(reason: string): void {
    // Rules of a partial list would cut off Services that are merely not listed yet.
    if (!this.listed.has('service') || !this.listed.has('slice')) return;
    if (this.nodeListed) this.options.onChange(reason);
    else if (this.options.needs.length === 0 && this.timer === undefined) {
      this.timer = setTimeout(() => {
        this.nodeListed = true;
        this.options.onChange(reason);
      }, NODE_WAIT_MS);
    }
  }
}
