import type { NodeRow, NodesEvent } from '../src/inspect/page/plan/view.ts';
import { Rows } from './rows.ts';

/** Another node, with its subnets of both families. */
export interface Peer {
  readonly name: string;
  readonly rows: readonly NodeRow[];
  readonly underlay: string;
  readonly subnets: readonly string[];
  readonly trouble: string;
  /** What others have noticed of it. */
  readonly doubt: string;
  readonly measured: string;
  readonly tone: 'good' | 'poor' | 'bad';
}

/** What the page knows of the other nodes: all of them once, then the changes. */
export class Peers {
  private readonly rows = new Rows<NodeRow>();
  private sorted: readonly Peer[] = [];
  foreign: readonly string[] = [];
  away: string | undefined;

  /** @returns false for changes of what is not known yet */
  take(event: NodesEvent): boolean {
    if (!this.rows.take(event)) return false;
    this.foreign = event.foreign;
    this.away = event.away;
    if (event.whole || event.rows.length + event.gone.length > 0) this.sorted = group(this.rows.all);
    return true;
  }

  get isKnown(): boolean {
    return this.rows.isKnown;
  }

  get more(): number {
    return this.rows.more;
  }

  get all(): readonly Peer[] {
    return this.sorted;
  }
}

/** As people count: 10.244.9.0 before 10.244.10.0. */
const order = new Intl.Collator('en', { numeric: true });

const texts = (rows: readonly NodeRow[], cell: 5 | 6 | 7): string =>
  [...new Set(rows.map((row) => row[cell]).filter((text) => text !== ''))].join('; ');

function judge(rows: readonly NodeRow[]): Pick<Peer, 'trouble' | 'doubt' | 'measured' | 'tone'> {
  const [trouble, doubt] = [texts(rows, 5), texts(rows, 6)];
  const tone = trouble !== '' ? 'bad' : doubt !== '' ? 'poor' : 'good';
  return { trouble, doubt, measured: texts(rows, 7), tone };
}

function group(rows: readonly NodeRow[]): Peer[] {
  const byLease = new Map<string, NodeRow[]>();
  for (const row of rows) {
    const known = byLease.get(row[1]);
    if (known === undefined) byLease.set(row[1], [row]);
    else known.push(row);
  }
  return [...byLease.values()]
    .map((all): Peer => {
      const [first] = all;
      const subnets = all.map(([subnet]) => subnet);
      // A lease of etcd's is called by its subnet.
      const isSubnet = /^[\d.]+-\d+(&|$)|^[\da-f:]+-\d+$/i.test(first![1]);
      return {
        name: isSubnet ? subnets[0]! : first![1],
        rows: all,
        underlay: first![2],
        subnets,
        ...judge(all),
      };
    })
    .sort((a, b) => order.compare(a.subnets[0]!, b.subnets[0]!));
}
