import type { Log } from '../../process/log.ts';
import { Belief } from '../belief.ts';
import { type Lease, sameLease } from '../plan/lease.ts';
import type { NodeRecord, OwnNode } from './records.ts';

/** What changed with a node's own entry: anything, or also the addresses that it is known by. */
export type OwnNodeChange = 'node' | 'addresses';

export interface KubeNodesOptions {
  readonly log: Log;
  readonly nodeName: string;
  readonly onOwn: (change: OwnNodeChange) => void;
  /** Leases of nodes have changed. */
  readonly onLeases: () => void;
  /** False of a lease that is of no use under the network configuration. */
  readonly works: (lease: Lease) => boolean;
}

const addresses = ({ publicIps, internalIps }: OwnNode): string =>
  [...publicIps, ...internalIps].map(({ text }) => text).join();

/** Mirrors what the Kubernetes nodes say of their leases, and our own node. */
export class KubeNodes {
  /** As the nodes say them. */
  readonly leases = new Map<string, Lease>();
  readonly belief: Belief;
  /** Nodes whose leases cannot be read, with the reason. */
  readonly malformed = new Map<string, string>();
  private readonly options: KubeNodesOptions;
  private node: OwnNode | undefined;

  constructor(options: KubeNodesOptions) {
    this.options = options;
    const { log, works, onLeases } = options;
    this.belief = new Belief({ log, works, onSettled: onLeases });
  }

  /** Our own node; undefined when there is none of our name. */
  get own(): OwnNode | undefined {
    return this.node;
  }

  /** These are all nodes. */
  replace(records: readonly NodeRecord[]): void {
    const present = new Set(records.map(({ name }) => name));
    for (const name of [...this.leases.keys(), ...this.malformed.keys()])
      if (!present.has(name)) this.set(name, undefined);
    if (!present.has(this.options.nodeName)) this.node = undefined;
    for (const record of records) this.set(record.name, record);
    this.options.onLeases();
  }

  /** A node has come or changed; undefined when it is gone. */
  take(name: string, record: NodeRecord | undefined): void {
    if (this.set(name, record)) this.options.onLeases();
  }

  /** @returns false when nothing changed that matters: kubelets write their nodes' status all the time */
  private set(name: string, record: NodeRecord | undefined): boolean {
    const { lease, problem } = record ?? {};
    const known = this.leases.get(name);
    if (name === this.options.nodeName) this.setOwn(record?.own);
    if (problem !== undefined && this.malformed.get(name) !== problem)
      this.options.log.warn({ node: name, reason: problem }, 'skipped a node whose lease cannot be read');
    if (problem === undefined) this.malformed.delete(name);
    else this.malformed.set(name, problem);
    if (known === undefined && lease === undefined) return false;
    if (known !== undefined && lease !== undefined && sameLease(known, lease)) return false;
    // Nodes are deleted by administrators.
    const current = this.belief.said(name, known, { lease, given: record === undefined });
    if (name === this.options.nodeName) this.belief.settleNow(name);
    if (current === undefined) this.leases.delete(name);
    else this.leases.set(name, current);
    return true;
  }

  private setOwn(node: OwnNode | undefined): void {
    const before = this.node;
    this.node = node;
    const moved = before !== undefined && node !== undefined && addresses(before) !== addresses(node);
    this.options.onOwn(moved ? 'addresses' : 'node');
  }
}
