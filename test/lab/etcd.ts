import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { Etcd3 } from 'etcd3';
import type { Namespace } from './namespace.ts';
import { LabProcess } from './process.ts';
import { waitFor } from './wait.ts';

export interface EtcdKey {
  readonly key: string;
  readonly value: string;
  /** The etcd lease the key hangs on, in decimal; '0' for none. */
  readonly lease: string;
}

export interface EtcdOptions {
  readonly namespace: Namespace;
  readonly directory: string;
  /** Addresses as they stand in a URL, the first one is `endpoint`'s. */
  readonly addresses: readonly string[];
}

const clientPort = 2379;
/** etcd takes no path for a Unix socket: it makes a file of this name in its working directory. */
const socketName = 'socket:1';

/** A real etcd process; stopping and starting it again keeps its data. */
export class LabEtcd {
  /** URL under which the nodes reach it. */
  readonly endpoint: string;
  readonly process: LabProcess;
  /** For what the methods here do not offer. */
  readonly client: Etcd3;
  private readonly directory: string;

  constructor(options: EtcdOptions) {
    const { namespace, directory, addresses } = options;
    mkdirSync(directory, { recursive: true });
    const urls = addresses.map((address) => `http://${address}:${clientPort}`);
    this.endpoint = urls[0]!;
    this.directory = directory;
    const peer = 'http://127.0.0.1:2380';
    this.process = new LabProcess({
      name: 'etcd',
      namespace,
      program: 'etcd',
      args: [
        '--data-dir=data',
        `--listen-client-urls=${urls.join(',')},unix://${socketName}`,
        `--advertise-client-urls=${this.endpoint}`,
        `--listen-peer-urls=${peer}`,
        `--initial-advertise-peer-urls=${peer}`,
        `--initial-cluster=default=${peer}`,
      ],
      cwd: directory,
      logFile: join(directory, 'etcd.log'),
    });
    this.client = new Etcd3({ hosts: `unix://${join(directory, socketName)}`, dialTimeout: 2000 });
  }

  /** Starts it, on the data of its last run if there was one, and waits until it answers. */
  async start(): Promise<void> {
    rmSync(join(this.directory, socketName), { force: true });
    await this.process.start();
    await waitFor(
      'etcd to answer',
      async () => {
        if (!existsSync(join(this.directory, socketName))) return false;
        await this.client.maintenance.status();
        return true;
      },
      { explain: () => this.process.tail() },
    );
  }

  stop(): Promise<void> {
    return this.process.stop();
  }

  kill(): Promise<void> {
    return this.process.kill();
  }

  async put(key: string, value: string): Promise<void> {
    await this.client.put(key).value(value);
  }

  /** @returns undefined when there is no such key */
  async get(key: string): Promise<string | undefined> {
    return (await this.client.get(key).string()) ?? undefined;
  }

  /** The keys that start with `prefix`, in order. */
  async keys(prefix: string): Promise<EtcdKey[]> {
    const { kvs } = await this.client.getAll().prefix(prefix).exec();
    return kvs.map(({ key, value, lease }) => ({
      key: key.toString(),
      value: value.toString(),
      lease: String(lease),
    }));
  }

  async delete(key: string): Promise<void> {
    await this.client.delete().key(key);
  }

  /** Forgets all history up to now, so that a watch that lags behind cannot resume. */
  async compact(): Promise<void> {
    const { header } = await this.client.get('/').exec();
    await this.client.kv.compact({ revision: header.revision, physical: true });
  }

  close(): void {
    this.client.close();
  }
}
