import { existsSync, readFileSync } from 'node:fs';
import type { OutgoingHttpHeaders } from 'node:http';
import { dirname, resolve } from 'node:path';
import type { KubeConfig } from '@kubernetes/client-node/dist/config.js';
import type { Cluster, User } from '@kubernetes/client-node/dist/config_types.js';
import { parse } from 'yaml';
import { describeError, isTwillError, TwillError, withoutCredentials } from '../model/error.ts';
import { asGoReads } from '../process/go-yaml.ts';
import { checkExecPlugin, ExecCredentials, type ExecPlugin, execExtension } from './exec-plugin.ts';
import { type Impersonation, impersonationHeaders } from './impersonation.ts';
import { type ApiServer, checkServer, distinctServers, kubeletServers } from './servers.ts';

export interface KubeConfigOptions {
  /** Path of a kubeconfig; undefined for the pod's service account. */
  readonly kubeconfig?: string | undefined;
  /** URLs of API servers, separated by commas, over what the configuration says; they are tried in turn. */
  readonly master?: string | undefined;
  /**
   * Kubeconfigs of this node's kubelet: their servers are asked by a service account, before its own address of the API,
   * which nobody serves until a proxy does.
   */
  readonly kubeletKubeconfigs?: readonly string[];
  /** Told which server answers, whenever that is another than before. */
  readonly onServer?: (choice: ServerChoice) => void;
  /** Told of every request: the answer's status, or `<error>` when none came. */
  readonly onRequest?: (request: {
    readonly method: string;
    readonly host: string;
    readonly code: string;
  }) => void;
  /** Told of every answer that was read whole, which those of watches are not. */
  readonly onExchange?: (exchange: Exchange) => void;
}

/** A request and its answer. */
export interface Exchange {
  readonly method: string;
  readonly host: string;
  readonly seconds: number;
  /** Of the bodies. */
  readonly bytesSent: number;
  readonly bytesReceived: number;
}

export interface ServerChoice extends ApiServer {
  /** Those that were tried in vain, and files that no server could be taken from, with the reasons. */
  readonly passedOver: readonly string[];
}

/** The library's configuration, and what it does not know. */
export interface LoadedKubeConfig {
  readonly config: KubeConfig;
  /** At least one; to be tried in turn. */
  readonly servers: readonly ApiServer[];
  /** Why files name no server. */
  readonly problems: readonly string[];
  /** Headers of every request. */
  readonly headers: OutgoingHttpHeaders;
}

const SERVICE_ACCOUNT_TOKEN = '/var/run/secrets/kubernetes.io/serviceaccount/token';

interface NamedUser {
  readonly name?: string;
  readonly user?: Impersonation & { readonly tokenFile?: string; readonly exec?: ExecPlugin };
}

interface NamedCluster {
  readonly name?: string;
  readonly cluster?: {
    readonly extensions?: readonly { readonly name?: string; readonly extension?: unknown }[];
  };
}

interface KubeconfigFile {
  readonly users?: readonly NamedUser[];
  readonly clusters?: readonly NamedCluster[];
}

/** What the kubeconfigs say, for the fields the library does not know; paths are made absolute. */
interface Rest {
  readonly users: Map<string, NonNullable<NamedUser['user']>>;
  readonly clusters: Map<string, NonNullable<NamedCluster['cluster']>>;
}

function readRest(path: string | undefined): Rest {
  const rest: Rest = { users: new Map(), clusters: new Map() };
  if (path === undefined) return rest;
  const file = parse(readFileSync(path, 'utf8'), asGoReads) as KubeconfigFile | null;
  const base = dirname(path);
  for (const { name, user } of file?.users ?? []) {
    if (name === undefined || !user || rest.users.has(name)) continue;
    const tokenFile = user.tokenFile ? resolve(base, user.tokenFile) : undefined;
    const command = user.exec?.command;
    // A name without a slash is looked for in the PATH.
    const exec = command?.includes('/') ? { ...user.exec, command: resolve(base, command) } : user.exec;
    rest.users.set(name, { ...user, tokenFile, exec } as NonNullable<NamedUser['user']>);
  }
  for (const { name, cluster } of file?.clusters ?? []) {
    if (name !== undefined && cluster && !rest.clusters.has(name)) rest.clusters.set(name, cluster);
  }
  return rest;
}

/** @throws TwillError `invalid` naming the file and what is no proxy */
function checkProxy(path: string, proxyUrl: string | undefined): void {
  if (!proxyUrl) return;
  const scheme = URL.canParse(proxyUrl) ? new URL(proxyUrl).protocol : '';
  if (!/^(https?|socks\w*):$/.test(scheme))
    throw new TwillError(
      'invalid',
      `${path}: its proxy-url '${withoutCredentials(proxyUrl)}' is not of the form http://HOST:PORT or socks5://HOST:PORT`,
    );
}

/**
 * A kubeconfig as client-go reads it: YAML by Go's rules, what is in it comes before files that it names, and who has no
 * user is nobody, who trusts the same authority.
 */
function loadFile(config: KubeConfig, path: string): void {
  config.loadFromString(JSON.stringify(parse(readFileSync(path, 'utf8'), asGoReads)));
  config.makePathsAbsolute(dirname(path));
  checkProxy(path, config.getCurrentCluster()?.proxyUrl);
  for (const cluster of config.clusters) if (cluster.caData) Object.assign(cluster, { caFile: undefined });
  for (const user of config.users) {
    if (user.certData) Object.assign(user, { certFile: undefined });
    if (user.keyData) Object.assign(user, { keyFile: undefined });
  }
  const context = config.getContextObject(config.getCurrentContext());
  if (context === null || context.user) return;
  config.addUser({ name: '' });
  Object.assign(context, { user: '' });
}

/**
 * As kube-proxy and flanneld do: what is asked for, else the service account of the pod. The kubeconfig of whoever starts
 * the program ($KUBECONFIG, ~/.kube/config) is for people: a node must not take up an administrator's rights by chance.
 */
function load(config: KubeConfig, { kubeconfig, master }: KubeConfigOptions): void {
  const inCluster = existsSync(SERVICE_ACCOUNT_TOKEN);
  if (kubeconfig !== undefined) loadFile(config, kubeconfig);
  else if (inCluster && (master !== undefined || process.env.KUBERNETES_SERVICE_HOST))
    config.loadFromCluster();
  else if (master !== undefined)
    config.loadFromClusterAndUser({ name: 'given', server: master } as Cluster, { name: 'nobody' } as User);
  else
    throw new TwillError(
      'invalid',
      'there is no Kubernetes configuration: this is no pod with a service account, so a kubeconfig must be given',
    );
}

/** Has the user's credentials and identity be what client-go makes of the kubeconfig. @returns headers of every request */
function completeUser(config: KubeConfig, user: User, cluster: Cluster, rest: Rest): OutgoingHttpHeaders {
  const fields = rest.users.get(user.name);
  if (fields === undefined) return {};
  const { tokenFile, exec } = fields;
  if (tokenFile) {
    Object.assign(user, { authProvider: { name: 'tokenFile', config: { tokenFile } }, token: undefined });
  } else if (exec) {
    checkExecPlugin(user.name, exec);
    const extensions = rest.clusters.get(cluster.name)?.extensions ?? [];
    const clusterConfig = extensions.find(({ name }) => name === execExtension)?.extension;
    // Under a name of ours, so that the library's own way does not get hold of it.
    Object.assign(user, { authProvider: { name: execExtension }, exec: undefined });
    config.addAuthenticator(new ExecCredentials(exec, () => cluster, clusterConfig));
  }
  const headers = impersonationHeaders(user.name, fields);
  Object.assign(user, { impersonateUser: undefined });
  return headers;
}

/** @throws TwillError `invalid` naming who gave what is no URL */
function findServers(
  { master, kubeconfig, kubeletKubeconfigs = [] }: KubeConfigOptions,
  configured: string,
  where: string,
): { servers: ApiServer[]; problems: string[] } {
  if (master !== undefined) {
    const urls = master.split(',').map((url) => url.trim());
    const servers = urls
      .filter((url) => url !== '')
      .map((url) => ({ url: checkServer(url, 'the URL of the API server'), why: 'given' }));
    if (servers.length === 0)
      throw new TwillError('invalid', `no URL of an API server is in '${master}': give https://HOST:PORT`);
    return { servers: distinctServers(servers), problems: [] };
  }
  const url = checkServer(configured, `${where}: its server`);
  if (kubeconfig !== undefined) return { servers: [{ url, why: `server of ${kubeconfig}` }], problems: [] };
  const { servers, problems } = kubeletServers(kubeletKubeconfigs);
  const own = { url, why: 'the Service address that pods are told' };
  return { servers: distinctServers([...servers, own]), problems };
}

/** @throws TwillError `invalid` naming the file, and what is missing in it */
export async function loadKubeConfig(options: KubeConfigOptions): Promise<LoadedKubeConfig> {
  // Only the configuration part of the library: the whole costs half a second and 80 MB.
  const { KubeConfig } = await import('@kubernetes/client-node/dist/config.js');
  const config = new KubeConfig();
  const where = options.kubeconfig ?? 'service account';
  try {
    load(config, options);
  } catch (cause) {
    if (isTwillError(cause)) throw cause;
    throw new TwillError('invalid', `cannot read the Kubernetes configuration (${where})`, cause);
  }
  const cluster = config.getCurrentCluster();
  if (cluster === null) {
    throw new TwillError('invalid', `${where}: names no cluster: set its current-context`);
  }
  const name = config.getContextObject(config.getCurrentContext())?.user;
  const user = config.getCurrentUser();
  if (name && user === null) {
    throw new TwillError('invalid', `${where}: its context names the user '${name}', who is not in it`);
  }
  const { servers, problems } = findServers(options, cluster.server, where);
  // Before rules stand a proxy cannot use the API's own Service address, which a service account is told. What must be
  // verified decides how the library sets the connection up.
  const told = {
    ...cluster,
    server: (servers.find(({ url }) => url.startsWith('https:')) ?? servers[0]!).url,
  };
  Object.assign(cluster, { server: told.server });
  // The library refuses plain HTTP (a local `kubectl proxy`, say) unless told not to verify what cannot be verified.
  const plain = cluster.server.startsWith('http:');
  if (plain) Object.assign(cluster, { skipTLSVerify: true });
  try {
    const headers = user === null ? {} : completeUser(config, user, told, readRest(options.kubeconfig));
    return { config, servers, problems, headers };
  } catch (cause) {
    throw new TwillError('invalid', `${where}: ${describeError(cause)}`, cause);
  }
}
