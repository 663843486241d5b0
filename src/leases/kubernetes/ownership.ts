import { isTwillError, TwillError } from '../../model/error.ts';
import type { Log } from '../../process/log.ts';
import { ReconcileLoop } from '../../process/loop.ts';
import { type Claim, claimedNodeLease } from '../plan/claim.ts';
import { type Lease, sameLease } from '../plan/lease.ts';
import { type AnnotationNames, leaseAnnotations } from '../plan/node-annotations.ts';
import type { KubeLeases, OwnNode } from './records.ts';

export interface KubeOwnershipOptions {
  readonly log: Log;
  readonly names: AnnotationNames;
  readonly setNodeNetworkUnavailable: boolean;
  readonly nodeName: () => string;
  /** Our own node as it is known now. */
  readonly node: () => OwnNode | undefined;
  /** Where our node is written; undefined as long as there is no connection. Follows the nodes that the claim needs. */
  readonly store: (claim: Claim) => Promise<KubeLeases | undefined>;
  /** Our lease was got, lost or changed. */
  readonly onOwn: () => void;
}

/** Publishes this node's lease, which follows from its podCIDRs, as annotations, and keeps them right. */
export class KubeOwnership {
  private readonly options: KubeOwnershipOptions;
  private readonly loop: ReconcileLoop;
  private readonly abort = new AbortController();
  private wish: Claim | undefined;
  private held: Lease | undefined;
  private networkIsUp = false;

  constructor(options: KubeOwnershipOptions) {
    this.options = options;
    this.loop = new ReconcileLoop({
      name: 'lease',
      log: options.log,
      work: () => this.work(),
      backoffMs: { first: 200, longest: 10_000 },
    });
  }

  claim(claim: Claim): void {
    this.wish = claim;
    this.loop.trigger('claim', true);
  }

  /** Our node may say something else now. */
  nodeChanged(): void {
    this.loop.trigger('our node changed');
  }

  networkUp(): void {
    this.networkIsUp = true;
    this.loop.trigger('the network is up');
  }

  own(): Lease | undefined {
    return this.held;
  }

  /** Why the last attempt to publish failed. */
  get lastError(): string | undefined {
    return this.loop.status().lastError;
  }

  async stop(): Promise<void> {
    this.abort.abort();
    await this.loop.stop();
  }

  private async work(): Promise<void> {
    const { wish } = this;
    if (wish === undefined) return;
    const { names, log, setNodeNetworkUnavailable } = this.options;
    const store = await this.options.store(wish);
    if (store === undefined) return;
    const node = this.options.node();
    const nodeName = this.options.nodeName();
    if (node === undefined)
      throw new TwillError('unavailable', `there is no Kubernetes node '${nodeName}': set NODE_NAME`);
    const lease = this.wanted(wish, node);
    const annotations = leaseAnnotations(lease, names);
    const present = node.raw.metadata?.annotations ?? {};
    if (Object.entries(annotations).some(([name, value]) => present[name] !== value)) {
      await store.annotate(annotations, this.abort.signal);
      log.info({ node: nodeName, annotations }, 'published our lease');
    }
    if (this.held === undefined || !sameLease(this.held, lease)) this.hold(lease);
    if (this.networkIsUp && setNodeNetworkUnavailable && node.networkUnavailable !== 'False')
      await store.clearNetworkUnavailable(this.abort.signal);
  }

  /** A node whose podCIDR is of another network has no lease; while it has no podCIDR the one of before holds. */
  private wanted(wish: Claim, node: OwnNode): Lease {
    try {
      return claimedNodeLease(wish, { name: this.options.nodeName(), ...node }, this.options.names);
    } catch (error) {
      if (isTwillError(error, 'invalid') && this.held !== undefined) this.hold(undefined);
      throw error;
    }
  }

  private hold(lease: Lease | undefined): void {
    this.held = lease;
    this.options.onOwn();
  }
}
