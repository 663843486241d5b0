import { parse } from 'yaml';
import { describeError, TwillError, withoutCredentials } from '../model/error.ts';
import { list, object } from '../model/untrusted.ts';
import { asGoReads } from '../process/go-yaml.ts';
import { readBelow } from '../process/read-below.ts';
import { readRegularFile } from '../process/regular-file.ts';

/** Where the API is asked for, and who says so. */
export interface ApiServer {
  readonly url: string;
  readonly why: string;
}

/** What follows the path of a URL, be it a mark alone, would stand in the middle of every request's. */
function isServer(url: string): boolean {
  return URL.canParse(url) && /^https?:$/.test(new URL(url).protocol) && !/[?#\s]/.test(url);
}

/** @param where names the place in the message @throws TwillError `invalid` */
export function checkServer(url: string, where: string): string {
  const server = url.trim();
  if (!isServer(server))
    throw new TwillError(
      'invalid',
      `${where} '${withoutCredentials(url)}' is not of the form https://HOST:PORT`,
    );
  return server.replace(/^https?/i, (scheme) => scheme.toLowerCase()).replace(/\/+$/, '');
}

interface NamedServer {
  readonly name: string;
  readonly url: string;
}

/** Of an entry of `clusters`. Whoever is named before an @ in it is the kubelet's affair. @throws TwillError `invalid` */
function serverOf(cluster: unknown, missing: string): NamedServer {
  const { name, cluster: fields } = object(cluster);
  const { server } = object(fields);
  if (typeof server !== 'string') throw new TwillError('invalid', missing);
  const url = checkServer(server, 'its server').replace(/^(https?:\/\/)[^/]*@/, '$1');
  return { name: typeof name === 'string' ? name : '', url };
}

/** The file that {@link writtenServers} makes: its servers are tried in turn. */
const FOUND = 'twill-found';

/** Why other files name no server, in a file that {@link writtenServers} made. */
function foundProblems(file: Readonly<Record<string, unknown>>): string[] | undefined {
  const extension = list(file.extensions)
    .map(object)
    .find(({ name }) => name === FOUND);
  return extension === undefined ? undefined : list(extension.extension).map(String);
}

/** A kubeconfig of servers alone, for whoever must not see the kubelet's. */
export function writtenServers(servers: readonly NamedServer[], problems: readonly string[]): object {
  return {
    apiVersion: 'v1',
    kind: 'Config',
    clusters: servers.map(({ name, url }) => ({ name, cluster: { server: url } })),
    extensions: [{ name: FOUND, extension: problems }],
  };
}

/**
 * The server of a kubeconfig's current context, or of its one cluster; all servers of a file that {@link writtenServers}
 * made; none where it has no cluster at all. Nothing else of the file is looked at: a kubelet's credentials are its own.
 * @throws TwillError `invalid` saying what is missing
 */
export function serversOfKubeconfig(text: string): { servers: NamedServer[]; problems: string[] } {
  const file = object(parse(text, asGoReads));
  const clusters = list(file.clusters);
  const missing = 'its current context names no cluster with a server';
  const problems = foundProblems(file);
  if (problems !== undefined) return { servers: clusters.map((one) => serverOf(one, missing)), problems };
  if (Object.keys(file).length === 0) throw new TwillError('invalid', 'it is no kubeconfig');
  if (clusters.length === 0) return { servers: [], problems: [] };
  const current = list(file.contexts)
    .map(object)
    .find(({ name }) => name === file['current-context']);
  const wanted = object(current?.context).cluster;
  const only = clusters.length === 1 ? clusters[0] : undefined;
  const found = clusters.find((one) => current !== undefined && object(one).name === wanted) ?? only;
  return { servers: [serverOf(found, missing)], problems: [] };
}

export interface KubeletServer extends ApiServer {
  readonly path: string;
}

/** The servers that kubeconfigs of a kubelet name, of a host's below `root`; files that are not there are passed over. */
export function kubeletServers(
  paths: readonly string[],
  root?: string,
): { servers: KubeletServer[]; problems: string[] } {
  const servers: KubeletServer[] = [];
  const problems: string[] = [];
  for (const path of paths) {
    try {
      const found = serversOfKubeconfig(root === undefined ? readRegularFile(path) : readBelow(root, path));
      problems.push(...found.problems);
      for (const { name, url } of found.servers)
        servers.push({ path, url, why: `server of '${name}' in ${path}` });
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
