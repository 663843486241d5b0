import { unwatchFile, watchFile } from 'node:fs';
import { describeError, TwillError } from '../model/error.ts';
import { readFileIfPresent } from '../process/files.ts';
import { leavesNetworkOpen, withClusterNetworks } from './plan/cluster-network.ts';
import { type NetworkConfig, parseNetworkConfig } from './plan/network-config.ts';

/** Milliseconds between looks at the file: a mounted ConfigMap changes by a symbolic link, which inotify does not tell. */
const POLL_MS = 2000;

/** The network configuration in the file of `--net-config-path`. */
export class NetworkConfigFile {
  private readonly path: string;
  private listener: (() => void) | undefined;
  /** What counts where the file names no network. */
  clusterNetworks: readonly string[] = [];

  constructor(path: string) {
    this.path = path;
  }

  private text(): string {
    const text = readFileIfPresent(this.path);
    if (text !== undefined) return text;
    throw new TwillError('unavailable', `--net-config-path '${this.path}' cannot be read`);
  }

  /** Whether the cluster has to be asked which networks its pods have. @throws like {@link read} */
  needsCluster(): boolean {
    return this.clusterNetworks.length === 0 && leavesNetworkOpen(this.text());
  }

  /** @throws TwillError `unavailable` when there is no such file, `invalid` naming file and field */
  read(): NetworkConfig {
    const text = this.text();
    try {
      return parseNetworkConfig(withClusterNetworks(text, this.clusterNetworks), false);
    } catch (cause) {
      throw new TwillError('invalid', `'${this.path}': ${describeError(cause)}`, cause);
    }
  }

  /** Calls `onChange` each time that the file was written, put in place or taken away. */
  watch(onChange: () => void): void {
    this.listener = onChange;
    watchFile(this.path, { interval: POLL_MS, persistent: false }, onChange);
  }

  close(): void {
    if (this.listener !== undefined) unwatchFile(this.path, this.listener);
  }
}
