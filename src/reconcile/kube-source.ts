import { setTimeout as delay } from 'node:timers/promises';
import type { Log } from '../config/log.ts';
import { type Claim, claimedNodeLease } from '../desired/lease-claim.ts';
import { inNetwork, keepsSubnets } from '../desired/network-change.ts';
import type { Address, Family } from '../model/address.ts';
import { describeError, isTwillError, TwillError } from '../model/error.ts';
import { type AnnotationNames, annotationNames, leaseAnnotations } from '../model/kube-lease.ts';
import { type Lease, leaseFamily, sameLease } from '../model/lease.ts';
import type { NetworkConfig } from '../model/network-config.ts';
import { KubeClient } from '../store/kube-client.ts';
import type { KubeConfigOptions } from '../store/kube-config.ts';
import { findNodeName, KubeLeases, type NodeRecord, type OwnNode } from '../store/kube-leases.ts';
import { NetworkConfigFile } from '../store/network-config-file.ts';
import type { LeaseSource, SourceChange, SourceStatus } from './lease-source.ts';
import { ReconcileLoop } from './loop.ts';

export interface KubeSourceOptions {
  readonly client: KubeConfigOptions;
  readonly annotationPrefix: string;
  /** File with the network configuration. */
  readonly netConfigPath: string;
  readonly setNodeNetworkUnavailable: boolean;
  readonly log: Log;
}

const RETRY_MS = 2000;

/** Leases from the Kubernetes nodes' podCIDRs and flannel's annotations. */
export class KubeSource implements LeaseSource {
  private readonly options: KubeSourceOptions;
  private readonly names: AnnotationNames;
  private readonly configFile: NetworkConfigFile;
  private readonly abort = new AbortController();
  private readonly loop: ReconcileLoop;
  private readonly valid = new Map<string, Lease>();
  private readonly malformed = new Map<string, string>();
  private store: KubeLeases | undefined;
  private nodeName = '';
  private node: OwnNode | undefined;
  private wish: Claim | undefined;
  private held: Lease | undefined;
  private networkIsUp = false;
  private lastError: string | undefined;
  private current: NetworkConfig | undefined;
  private configError: string | undefined;
  private client: KubeClient | undefined;
  private listed: (() => void) | undefined;
  private starting: Promise<NetworkConfig> | undefined;
  private onChange: (change: SourceChange) => void = () => {};

  /** @throws TwillError `invalid` for a wrong annotation prefix */
  constructor(options: KubeSourceOptions) {
    this.options = options;
    this.names = annotationNames(options.annotationPrefix);
    this.configFile = new NetworkConfigFile(options.netConfigPath);
    this.loop = new ReconcileLoop({
      name: 'lease',
      log: options.log,
      work: () => this.work(),
      backoffMs: { first: 200, longest: 10_000 },
    });
  }

  start(onChange: (change: SourceChange) => void): void {
    this.onChange = onChange;
    this.starting = this.begin();
    this.starting.catch(() => {}); // told by `config`
  }

  /** Tries until it succeeds, and says each reason once. */
  private async eventually<T>(what: string, attempt: () => Promise<T> | T): Promise<T> {
    for (let told: string | undefined; ; ) {
      try {
        const value = await attempt();
        this.lastError = undefined;
        return value;
      } catch (error) {
        this.abort.signal.throwIfAborted();
        this.lastError = describeError(error);
        if (told !== this.lastError) this.options.log.warn({ error: this.lastError }, `${what}, will retry`);
        told = this.lastError;
        await delay(RETRY_MS, undefined, { signal: this.abort.signal });
      }
    }
  }

  /** What a changed file means is the same as a changed key in etcd: an unreadable one changes nothing. */
  private configChanged(): void {
    try {
      this.current = this.configFile.read();
      this.configError = undefined;
    } catch (error) {
      this.configError = describeError(error);
      this.options.log.error(
        { reason: this.configError },
        'the network configuration is wrong, waiting for a right one',
      );
    }
    this.onChange('config');
  }

  private async begin(): Promise<NetworkConfig> {
    const { client: clientOptions } = this.options;
    const config = await this.eventually('no network configuration', () => this.configFile.read());
    this.current = config;
    this.configFile.watch(() => this.configChanged());
    const client = await this.eventually('no Kubernetes configuration', () => KubeClient.open(clientOptions));
    this.nodeName = await this.eventually('the name of this node is not known', () =>
      findNodeName(client, process.env, this.abort.signal),
    );
    this.client = client;
    const complete = new Promise<void>((resolve) => {
      this.listed = resolve;
    });
    this.lastError = `waiting for the nodes from ${client.server}`;
    await this.follow(config);
    await complete;
    return config;
  }

  /** Watches the nodes that the backend needs: `alloc` only our own. */
  private async follow({ backend }: NetworkConfig): Promise<void> {
    const ownOnly = backend.type === 'alloc';
    const { client, store, nodeName, names } = this;
    if (client === undefined || store?.ownOnly === ownOnly) return;
    await store?.stop();
    this.store = new KubeLeases({
      client,
      log: this.options.log,
      nodeName,
      names,
      ownOnly,
      onList: (records) => this.replace(records),
      onChange: (name, record) => this.take(name, record),
      onState: (error) => {
        this.lastError = error;
      },
    });
    this.store.start();
  }

  private replace(records: readonly NodeRecord[]): void {
    const present = new Set(records.map(({ name }) => name));
    for (const name of [...this.valid.keys(), ...this.malformed.keys()])
      if (!present.has(name)) this.set(name, undefined);
    if (!present.has(this.nodeName)) this.node = undefined;
    for (const record of records) this.set(record.name, record);
    this.listed?.();
    this.tell();
  }

  private take(name: string, record: NodeRecord | undefined): void {
    if (this.set(name, record)) this.tell();
  }

  /** @returns false when nothing changed that matters: kubelets write their nodes' status all the time */
  private set(name: string, record: NodeRecord | undefined): boolean {
    const { lease, problem } = record ?? {};
    const known = this.valid.get(name);
    if (name === this.nodeName) this.setOwn(record?.own);
    if (problem !== undefined && this.malformed.get(name) !== problem)
      this.options.log.warn({ node: name, reason: problem }, 'skipped a node whose lease cannot be read');
    if (problem === undefined) this.malformed.delete(name);
    else this.malformed.set(name, problem);
    if (lease === undefined) return this.valid.delete(name);
    if (known !== undefined && sameLease(known, lease)) return false;
    this.valid.set(name, lease);
    return true;
  }

  private setOwn(node: OwnNode | undefined): void {
    const addresses = ({ publicIps, internalIps }: OwnNode): string =>
      [...publicIps, ...internalIps].map(({ text }) => text).join();
    const moved = this.node !== undefined && node !== undefined && addresses(this.node) !== addresses(node);
    this.node = node;
    this.loop.trigger('our node changed');
    // What is published, and over which interface, may be another now.
    if (moved) this.onChange('own');
  }

  private tell(): void {
    this.onChange('peers');
  }

  config(signal: AbortSignal): Promise<NetworkConfig> {
    return new Promise((resolve, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
      this.starting?.then(resolve, reject);
    });
  }

  latestConfig(): NetworkConfig | undefined {
    return this.current;
  }

  keeps(config: NetworkConfig): boolean {
    return this.held === undefined || keepsSubnets(config, this.held, inNetwork);
  }

  claim(claim: Claim): void {
    const addresses = ({ identity }: Claim): string => identity.publicIps.map(({ text }) => text).join();
    if (this.wish !== undefined && addresses(this.wish) !== addresses(claim)) this.store?.reconnect();
    this.wish = claim;
    this.loop.trigger('claim', true);
  }

  private async work(): Promise<void> {
    const { wish } = this;
    if (wish === undefined) return;
    await this.follow(wish.config);
    const { node, store } = this;
    if (store === undefined) return;
    if (node === undefined)
      throw new TwillError('unavailable', `there is no Kubernetes node '${this.nodeName}': set NODE_NAME`);
    const lease = this.wanted(wish, node);
    const annotations = leaseAnnotations(lease, this.names);
    const present = node.raw.metadata?.annotations ?? {};
    if (Object.entries(annotations).some(([name, value]) => present[name] !== value)) {
      await store.annotate(annotations, this.abort.signal);
      this.options.log.info({ node: this.nodeName, annotations }, 'published our lease');
    }
    const changed = this.held === undefined || !sameLease(this.held, lease);
    if (changed) {
      this.held = lease;
      this.onChange('own');
    }
    if (this.networkIsUp && this.options.setNodeNetworkUnavailable && node.networkUnavailable !== 'False')
      await store.clearNetworkUnavailable(this.abort.signal);
  }

  /** A node whose podCIDR is of another network has no lease; while it has no podCIDR the one of before holds. */
  private wanted(wish: Claim, node: OwnNode): Lease {
    try {
      return claimedNodeLease(wish, { name: this.nodeName, ...node }, this.names);
    } catch (error) {
      if (isTwillError(error, 'invalid') && this.held !== undefined) {
        this.held = undefined;
        this.onChange('own');
      }
      throw error;
    }
  }

  own(): Lease | undefined {
    return this.held;
  }

  leases(): ReadonlyMap<string, Lease> {
    return this.valid;
  }

  internalIps(): readonly Address[] {
    return this.node?.internalIps ?? [];
  }

  publicIps(): readonly Address[] {
    return this.node?.publicIps ?? [];
  }

  publishedMac(family: Family): string | undefined {
    const lease = this.valid.get(this.nodeName);
    return lease === undefined ? undefined : leaseFamily(lease, family)?.vtepMac;
  }

  networkUp(): void {
    this.networkIsUp = true;
    this.loop.trigger('the network is up');
  }

  status(): SourceStatus {
    const leaseError = this.lastError ?? this.loop.status().lastError;
    const connected = this.lastError === undefined;
    const { configError, malformed } = this;
    return { connected, lastError: this.lastError, leaseError, configError, malformed };
  }

  async stop(): Promise<void> {
    this.abort.abort();
    this.configFile.close();
    await Promise.all([this.loop.stop(), this.store?.stop()]);
  }
}
