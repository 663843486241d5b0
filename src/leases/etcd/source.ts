import type { Address, Family } from '../../model/address.ts';
import { describeError } from '../../model/error.ts';
import type { Log } from '../../process/log.ts';
import { type Claim, speaks } from '../plan/claim.ts';
import { macContested } from '../plan/holders.ts';
import type { Lease } from '../plan/lease.ts';
import { fitsLimits, keepsSubnets } from '../plan/network-change.ts';
import { type NetworkConfig, parseNetworkConfig } from '../plan/network-config.ts';
import type { LeaseSource, SourceChange, SourceStatus } from '../plan/source.ts';
import { ServerAddresses } from '../servers.ts';
import type { EtcdOptions } from './client.ts';
import { EtcdOwnership } from './ownership.ts';
import { EtcdLeases } from './store.ts';
import { EtcdTracker } from './tracker.ts';

/** Leases in etcd, in flannel's schema. */
export class EtcdSource implements LeaseSource {
  private readonly store: EtcdLeases;
  private readonly log: Log;
  private readonly tracker: EtcdTracker;
  private readonly addressesOfServers: ServerAddresses;
  private readonly ownership: EtcdOwnership;
  private current: NetworkConfig | undefined;
  /** Our public IPs of the last claim. */
  private addresses: string | undefined;
  private configError: string | undefined = 'the network configuration is not known yet';
  private waiting: ((config: NetworkConfig) => void)[] = [];
  private onChange: (change: SourceChange) => void = () => {};

  /** @param renewMarginSeconds the lease is renewed at the latest this long before it expires */
  constructor(options: EtcdOptions, renewMarginSeconds: number, log: Log) {
    this.log = log;
    this.store = new EtcdLeases(options);
    this.addressesOfServers = new ServerAddresses(options.endpoints);
    this.tracker = new EtcdTracker(this.store, log, {
      leases: (names) => {
        this.ownership.noticed(names);
        this.onChange('peers');
      },
      config: (text) => this.readConfig(text),
      works: (lease) => this.current === undefined || speaks(this.current.backend, lease),
    });
    this.ownership = new EtcdOwnership({
      store: this.store,
      tracker: this.tracker,
      log,
      renewMarginSeconds,
      onOwn: () => this.onChange('own'),
    });
  }

  start(onChange: (change: SourceChange) => void): void {
    this.onChange = onChange;
    this.tracker.start();
  }

  private readConfig(text: string | undefined): void {
    const key = this.store.configName;
    if (text === undefined) {
      this.configError = `${key} is missing in etcd`;
      this.log.warn({ key }, 'the network configuration is missing in etcd, waiting for it');
      this.onChange('config');
      return;
    }
    let config: NetworkConfig;
    try {
      config = parseNetworkConfig(text);
    } catch (error) {
      this.configError = `${key}: ${describeError(error)}`;
      this.log.error(
        { key, reason: describeError(error) },
        'the network configuration is wrong, waiting for a right one',
      );
      this.onChange('config');
      return;
    }
    this.configError = undefined;
    this.current = config;
    for (const resolve of this.waiting.splice(0)) resolve(config);
    this.onChange('config');
  }

  config(signal: AbortSignal): Promise<NetworkConfig> {
    if (this.current !== undefined) return Promise.resolve(this.current);
    return new Promise((resolve, reject) => {
      this.waiting.push(resolve);
      if (signal.aborted) return reject(signal.reason);
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    });
  }

  latestConfig(): NetworkConfig | undefined {
    return this.current;
  }

  keeps(config: NetworkConfig): boolean {
    const own = this.own();
    return own === undefined || keepsSubnets(config, own, fitsLimits);
  }

  claim(claim: Claim): void {
    const addresses = claim.identity.publicIps.map(({ text }) => text).join();
    if (this.addresses !== undefined && this.addresses !== addresses) this.tracker.reconnect();
    this.addresses = addresses;
    this.ownership.claim(claim);
  }

  own(): Lease | undefined {
    return this.ownership.own();
  }

  leases(): ReadonlyMap<string, Lease> {
    return this.tracker.belief.followed(this.tracker.leases);
  }

  leaseSecondsLeft(): number | undefined {
    return this.ownership.secondsLeft;
  }

  internalIps(): readonly Address[] {
    return [];
  }

  servers(): readonly Address[] {
    return this.addressesOfServers.known;
  }

  publicIps(): readonly Address[] {
    return [];
  }

  publishedMac(): undefined {
    return undefined; // etcd knows nodes by their public IP alone, and that may be another's too
  }

  macContested(family: Family, mac: string): boolean {
    // Who said so while our lease was gone is taken away first: a new address costs what is sent to the old one.
    if (!this.ownership.settled) return false;
    const { name } = this.own() ?? {};
    const record = name === undefined ? undefined : this.tracker.records.get(name);
    const lease = name === undefined ? undefined : this.tracker.leases.get(name);
    if (record === undefined || lease === undefined || this.current === undefined) return false;
    // Whoever starts now knows no other order than that of the writes.
    const own = { ...lease, order: { created: record.created, changed: Number(record.revision) } };
    const networks = this.current.families.map(({ network }) => network);
    return macContested(own, { family, mac }, this.tracker.leases.values(), networks);
  }

  networkUp(): void {}

  status(): SourceStatus {
    const { connected, lastError, malformed } = this.tracker;
    const { configError } = this;
    const { lastError: leaseError, disputed } = this.ownership;
    const problems = disputed === undefined ? [] : [disputed];
    return { connected, lastError, leaseError, configError, problems, malformed };
  }

  async stop(): Promise<void> {
    await Promise.all([this.tracker.stop(), this.ownership.stop()]);
    this.store.close();
  }
}
