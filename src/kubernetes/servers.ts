import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { describeError, TwillError, withoutCredentials } from '../model/error.ts';

/** Where the API is asked for, and who says so. */
export interface ApiServer {
  readonly url: string;
  readonly why: string;
}

interface Named {
  readonly name?: string;
  readonly cluster?: { readonly server?: string };
  readonly context?: { readonly cluster?: string };
}

interface Kubeconfig {
  readonly clusters?: readonly Named[] | null;
  readonly contexts?: readonly Named[] | null;
  readonly 'current-context'?: string;
}

function isServer(url: string): boolean {
  return URL.canParse(url) && /^https?:$/.test(new URL(url).protocol);
}

/** @param where names the place in the message @throws TwillError `invalid` */
export function checkServer(url: string, where: string): string {
  if (!isServer(url))
    throw new TwillError(
      'invalid',
      `${where} '${withoutCredentials(url)}' is not of the form https://HOST:PORT`,
    );
  return url.replace(/\/+$/, '');
}

/**
 * The server of a kubeconfig's current context, or of its one cluster; undefined where it has no cluster at all. Nothing
 * else of the file is looked at: a kubelet's credentials are its own.
 * @throws TwillError `invalid` saying what is missing
 */
export function serverOfKubeconfig(text: string): { name: string; url: string } | undefined {
  const file = parse(text) as Kubeconfig | null;
  const clusters = file?.clusters ?? [];
  if (file !== null && clusters.length === 0) return undefined;
  const current = file?.contexts?.find(({ name }) => name === file['current-context']);
  const wanted = current?.context?.cluster;
  const only = clusters.length === 1 ? clusters[0] : undefined;
  const found = clusters.find(({ name }) => name === wanted) ?? only;
  const server = found?.cluster?.server;
  if (typeof server !== 'string')
    throw new TwillError('invalid', 'its current context names no cluster with a server');
  return { name: found?.name ?? '', url: checkServer(server, 'its server') };
}

export interface KubeletServer extends ApiServer {
  readonly path: string;
}

/** The servers that kubeconfigs of a kubelet name, below `root`; files that are not there are passed over. */
export function kubeletServers(
  paths: readonly string[],
  root = '',
): { servers: KubeletServer[]; problems: string[] } {
  const servers: KubeletServer[] = [];
  const problems: string[] = [];
  for (const path of paths) {
    try {
      const found = serverOfKubeconfig(readFileSync(join(root, path), 'utf8'));
      if (found !== undefined)
        servers.push({ path, url: found.url, why: `server of '${found.name}' in ${path}` });
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code !== 'ENOENT' && code !== 'ENOTDIR') problems.push(`${path}: ${describeError(error)}`);
    }
  }
  return { servers, problems };
}

/** Each once, in order. */
export function distinctServers(servers: readonly ApiServer[]): ApiServer[] {
  return servers.filter(({ url }, index) => servers.findIndex((other) => other.url === url) === index);
}
