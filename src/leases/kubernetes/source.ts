import { setTimeout as delay } from 'node:timers/promises';
import { KubeClient } from '../../kubernetes/client.ts';
import type { KubeConfigOptions, ServerChoice } from '../../kubernetes/config.ts';
import type { Address, Family } from '../../model/address.ts';
import { describeError, isTwillError } from '../../model/error.ts';
import { guarded } from '../../process/guarded.ts';
import type { Log } from '../../process/log.ts';
import { NetworkConfigFile } from '../network-config-file.ts';
import { type Claim, speaks } from '../plan/claim.ts';
import { macContested } from '../plan/holders.ts';
import { type Lease, leaseFamily } from '../plan/lease.ts';
import { inNetwork, keepsSubnets } from '../plan/network-change.ts';
import type { NetworkConfig } from '../plan/network-config.ts';
import { type AnnotationNames, annotationNames } from '../plan/node-annotations.ts';
import type { LeaseSource, SourceChange, SourceStatus } from '../plan/source.ts';
import { ServerAddresses } from '../servers.ts';
import { readClusterNetworks } from './cluster-network.ts';
import { KubeNodes } from './nodes.ts';
import { KubeOwnership } from './ownership.ts';
import { findNodeName, KubeLeases } from './records.ts';

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
  private readonly ownership: KubeOwnership;
  private store: KubeLeases | undefined;
  /** Known when the name of this node is. */
  private nodes: KubeNodes | undefined;
  private nodeName = '';
  /** Our public IPs of the last claim. */
  private addresses: string | undefined;
  private lastError: string | undefined;
  private current: NetworkConfig | undefined;
  private configError: string | undefined;
  private configTimer: NodeJS.Timeout | undefined;
  private readonly lookAtConfig: () => void;
  private client: KubeClient | undefined;
  private addressesOfServers: ServerAddresses | undefined;
  private listed: (() => void) | undefined;
  private starting: Promise<NetworkConfig> | undefined;
  private onChange: (change: SourceChange) => void = () => {};

  /** @throws TwillError `invalid` for a wrong annotation prefix */
  constructor(options: KubeSourceOptions) {
    this.options = options;
    this.lookAtConfig = guarded(options.log, 'taking up the network configuration', () =>
      this.configChanged(),
    );
    this.names = annotationNames(options.annotationPrefix);
    this.configFile = new NetworkConfigFile(options.netConfigPath);
    this.ownership = new KubeOwnership({
      log: options.log,
      names: this.names,
      setNodeNetworkUnavailable: options.setNodeNetworkUnavailable,
      nodeName: () => this.nodeName,
      node: () => this.nodes?.own,
      store: ({ config }) => this.follow(config),
      onOwn: () => this.onChange('own'),
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
  private async configChanged(): Promise<void> {
    clearTimeout(this.configTimer);
    try {
      this.current = this.client === undefined ? this.configFile.read() : await this.readConfig(this.client);
      this.configError = undefined;
    } catch (error) {
      if (this.abort.signal.aborted) return;
      // It may be for want of descriptors: the file does not change again when there are some.
      if (isTwillError(error, 'unavailable'))
        this.configTimer = setTimeout(this.lookAtConfig, RETRY_MS).unref();
      const reason = describeError(error);
      if (reason === this.configError) return;
      this.configError = reason;
      this.options.log.error({ reason }, 'the network configuration is wrong, waiting for a right one');
    }
    this.onChange('config');
  }

  private async readConfig(client: KubeClient): Promise<NetworkConfig> {
    const { configFile, options } = this;
    if (configFile.needsCluster()) {
      configFile.clusterNetworks = await readClusterNetworks(client, this.abort.signal);
      options.log.info(
        { networks: configFile.clusterNetworks },
        'the pod networks are those that kubeadm was told',
      );
    }
    return configFile.read();
  }

  private tellServer({ url, why, passedOver }: ServerChoice): void {
    this.options.log.info({ url, why, passedOver }, 'the Kubernetes API is asked here');
  }

  private async begin(): Promise<NetworkConfig> {
    const { client: clientOptions } = this.options;
    const client = await this.eventually('no Kubernetes configuration', () =>
      KubeClient.open({ ...clientOptions, onServer: (choice) => this.tellServer(choice) }),
    );
    this.client = client;
    this.addressesOfServers = new ServerAddresses(client.servers);
    const config = await this.eventually('no network configuration', () => this.readConfig(client));
    this.current = config;
    this.configFile.watch(this.lookAtConfig);
    this.nodeName = await this.eventually('the name of this node is not known', () =>
      findNodeName(client, process.env, this.abort.signal),
    );
    this.nodes = new KubeNodes({
      log: this.options.log,
      nodeName: this.nodeName,
      onOwn: (change) => {
        this.ownership.nodeChanged();
        // What is published, and over which interface, may be another now.
        if (change === 'addresses') this.onChange('own');
      },
      onLeases: () => this.onChange('peers'),
      works: (lease) => this.current === undefined || speaks(this.current.backend, lease),
    });
    const complete = new Promise<void>((resolve) => {
      this.listed = resolve;
    });
    this.lastError = `waiting for the nodes from ${client.server}`;
    await this.follow(config);
    await complete;
    return this.current ?? config;
  }

  /** Watches the nodes that the backend needs: `alloc` only our own. */
  private async follow({ backend }: NetworkConfig): Promise<KubeLeases | undefined> {
    const ownOnly = backend.type === 'alloc';
    const { client, nodes, store, nodeName, names } = this;
    if (client === undefined || nodes === undefined || store?.ownOnly === ownOnly) return store;
    await store?.stop();
    this.store = new KubeLeases({
      client,
      log: this.options.log,
      nodeName,
      names,
      ownOnly,
      onList: (records) => {
        nodes.replace(records);
        this.listed?.();
      },
      onChange: (name, record) => nodes.take(name, record),
      onState: (error) => {
        this.lastError = error;
      },
    });
    this.store.start();
    return this.store;
  }

  config(signal: AbortSignal): Promise<NetworkConfig> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason);
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
      this.starting?.then(resolve, reject);
    });
  }

  latestConfig(): NetworkConfig | undefined {
    return this.current;
  }

  keeps(config: NetworkConfig): boolean {
    const own = this.own();
    return own === undefined || keepsSubnets(config, own, inNetwork);
  }

  claim(claim: Claim): void {
    const addresses = claim.identity.publicIps.map(({ text }) => text).join();
    if (this.addresses !== undefined && this.addresses !== addresses) this.store?.reconnect();
    this.addresses = addresses;
    this.ownership.claim(claim);
  }

  own(): Lease | undefined {
    return this.ownership.own();
  }

  leases(): ReadonlyMap<string, Lease> {
    return this.nodes?.belief.followed(this.nodes.leases) ?? new Map();
  }

  leaseSecondsLeft(): undefined {
    return undefined; // a Node's networks are its own for as long as it is there
  }

  internalIps(): readonly Address[] {
    return this.nodes?.own?.internalIps ?? [];
  }

  servers(): readonly Address[] {
    return this.addressesOfServers?.known ?? [];
  }

  publicIps(): readonly Address[] {
    return this.nodes?.own?.publicIps ?? [];
  }

  publishedMac(family: Family): string | undefined {
    const lease = this.nodes?.leases.get(this.nodeName);
    return lease === undefined ? undefined : leaseFamily(lease, family)?.vtepMac;
  }

  macContested(family: Family, mac: string): boolean {
    const own = this.nodes?.leases.get(this.nodeName);
    if (own === undefined || this.nodes === undefined || this.current === undefined) return false;
    const networks = this.current.families.map(({ network }) => network);
    return macContested(own, { family, mac }, this.nodes.leases.values(), networks);
  }

  networkUp(): void {
    this.ownership.networkUp();
  }

  status(): SourceStatus {
    const leaseError = this.lastError ?? this.ownership.lastError;
    const connected = this.lastError === undefined;
    const { configError } = this;
    const malformed = this.nodes?.malformed ?? new Map<string, string>();
    const problems = this.nodes?.own?.problems ?? [];
    const { client } = this;
    const from = client === undefined ? {} : { from: client.choice };
    return { connected, lastError: this.lastError, leaseError, configError, problems, malformed, ...from };
  }

  async stop(): Promise<void> {
    this.abort.abort();
    this.configFile.close();
    clearTimeout(this.configTimer);
    this.nodes?.belief.stop();
    await Promise.all([this.ownership.stop(), this.store?.stop()]);
  }
}
