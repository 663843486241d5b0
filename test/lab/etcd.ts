import { generateKeyPairSync } from 'node:crypto';
import { cpSync, existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Etcd3 } from 'etcd3';
import type { Certificates } from './certificates.ts';
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
  /** The first one is `endpoint`'s. */
  readonly addresses: readonly string[];
  /** Clients have to show a certificate of the same authority then. */
  readonly certificates?: Certificates;
  /** Users get signed tokens (JWT) that say how far the users' rights have been changed, instead of random ones. */
  readonly signedTokens?: boolean;
}

export interface Credentials {
  readonly username: string;
  readonly password: string;
}

/** What a user of etcd may do. */
export interface EtcdUser extends Credentials {
  /** All keys that start with this it may read and write. */
  readonly prefix?: string;
  /** The one key that it may write. */
  readonly key?: string;
  readonly readable?: readonly string[];
  readonly readablePrefix?: string;
}

const clientPort = 2379;
const root: Credentials = { username: 'root', password: 'root of the lab' };
/** etcd takes no path for a Unix socket: it makes a file of this name in its working directory. */
const socketName = 'socket:1';

function tlsFlags(certificates: Certificates | undefined): string[] {
  if (certificates === undefined) return [];
  const { ca, server } = certificates;
  return [
    `--cert-file=${server.certificate}`,
    `--key-file=${server.key}`,
    `--trusted-ca-file=${ca}`,
    '--client-cert-auth',
  ];
}

/** Makes a key for signed tokens. */
function tokenFlags(directory: string): string[] {
  const { publicKey, privateKey } = generateKeyPairSync('rsa', {
    modulusLength: 2048,
    publicKeyEncoding: { type: 'spki', format: 'pem' },
    privateKeyEncoding: { type: 'pkcs1', format: 'pem' },
  });
  writeFileSync(join(directory, 'token-public.pem'), publicKey);
  writeFileSync(join(directory, 'token-private.pem'), privateKey);
  return ['--auth-token=jwt,pub-key=token-public.pem,priv-key=token-private.pem,sign-method=RS256,ttl=1h'];
}

/** A real etcd process; stopping and starting it again keeps its data. */
export class LabEtcd {
  /** URL under which the nodes reach it. */
  readonly endpoint: string;
  readonly process: LabProcess;
  /** For what the methods here do not offer. */
  client: Etcd3;
  /** Where it serves TLS only. */
  readonly certificates: Certificates | undefined;
  private readonly directory: string;

  constructor(options: EtcdOptions) {
    const { namespace, directory, addresses, certificates, signedTokens = false } = options;
    const scheme = certificates === undefined ? 'http' : 'https';
    const urls = addresses
      .map((ip) => (ip.includes(':') ? `[${ip}]` : ip))
      .map((host) => `${scheme}://${host}:${clientPort}`);
    this.certificates = certificates;
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
        ...tlsFlags(certificates),
        ...(signedTokens ? tokenFlags(directory) : []),
      ],
      cwd: directory,
      logFile: join(directory, 'etcd.log'),
    });
    this.client = this.connect();
  }

  /** Where processes of any network namespace reach it. */
  get localEndpoint(): string {
    return `unix://${join(this.directory, socketName)}`;
  }

  private connect(auth?: Credentials): Etcd3 {
    return new Etcd3({
      hosts: this.localEndpoint,
      dialTimeout: 2000,
      ...(auth === undefined ? {} : { auth }),
    });
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

  /** Forgets everything, as an etcd that was set up anew; while it is stopped. */
  wipe(): void {
    rmSync(join(this.directory, 'data'), { recursive: true });
  }

  /** Keeps a copy of all that it knows; while it is stopped. */
  backUp(): void {
    cpSync(join(this.directory, 'data'), join(this.directory, 'backup'), { recursive: true });
  }

  /** Forgets what it was told since {@link backUp}; while it is stopped. */
  restore(): void {
    this.wipe();
    cpSync(join(this.directory, 'backup'), join(this.directory, 'data'), { recursive: true });
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

  /**
   * From now on only this user may read and write keys that start with `prefix`; `client` is the administrator.
   * @param readable keys that the user may read besides
   */
  async requireUser(user: Credentials, prefix: string, readable: readonly string[] = []): Promise<void> {
    await this.requireUsers([{ ...user, prefix, readable }]);
  }

  /** From now on only these users may read and write, each what it is given; `client` is the administrator. */
  async requireUsers(users: readonly EtcdUser[]): Promise<void> {
    for (const { username, key, prefix, readable = [], readablePrefix } of users) {
      const role = this.client.role(`role-${username}`);
      await role.create();
      const range = (start: string) => this.client.range({ prefix: start });
      if (prefix !== undefined) await role.grant({ permission: 'Readwrite', range: range(prefix) });
      if (key !== undefined) await role.grant({ permission: 'Readwrite', key });
      for (const one of readable) await role.grant({ permission: 'Read', key: one });
      if (readablePrefix !== undefined)
        await role.grant({ permission: 'Read', range: range(readablePrefix) });
    }
    await this.client.role('root').create();
    for (const { username, password, roleName } of [
      ...users.map((user) => ({ ...user, roleName: `role-${user.username}` })),
      { ...root, roleName: 'root' },
    ]) {
      await this.client.user(username).create(password);
      await this.client.user(username).addRole(roleName);
    }
    await this.client.auth.authEnable();
    this.client.close();
    this.client = this.connect(root);
  }

  /** Adds a user without any right, where users are asked for. */
  async addUser({ username, password }: Credentials): Promise<void> {
    await this.client.user(username).create(password);
    this.client.close();
    this.client = this.connect(root); // its own token may be worthless now
  }

  close(): void {
    this.client.close();
  }
}
