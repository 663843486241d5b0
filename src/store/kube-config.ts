import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, dirname, join, resolve } from 'node:path';
import type { KubeConfig } from '@kubernetes/client-node/dist/config.js';
import { parse } from 'yaml';
import { TwillError } from '../model/error.ts';

export interface KubeConfigOptions {
  /** Path of a kubeconfig; undefined for $KUBECONFIG, ~/.kube/config, or the pod's service account. */
  readonly kubeconfig?: string | undefined;
  /** URL of the API server, over what the configuration says. */
  readonly master?: string | undefined;
}

/** What the library makes up where there is no configuration. */
const NOWHERE = 'http://localhost:8080';

interface KubeconfigFile {
  readonly users?: readonly { readonly name?: string; readonly user?: { readonly tokenFile?: string } }[];
}

/** Token files of the users in a kubeconfig; the library does not know the field, which kubeadm's kube-proxy uses. */
function tokenFiles(path: string): Map<string, string> {
  const found = new Map<string, string>();
  let file: KubeconfigFile | null;
  try {
    file = parse(readFileSync(path, 'utf8')) as KubeconfigFile | null;
  } catch {
    return found; // not there: the library has said so where that matters
  }
  for (const { name, user } of file?.users ?? []) {
    if (name !== undefined && user?.tokenFile) found.set(name, resolve(dirname(path), user.tokenFile));
  }
  return found;
}

function addTokenFiles(config: KubeConfig, kubeconfig: string | undefined): void {
  const files = kubeconfig ?? process.env.KUBECONFIG ?? join(homedir(), '.kube', 'config');
  for (const path of files.split(delimiter)) {
    for (const [name, tokenFile] of tokenFiles(path)) {
      const user = config.getUser(name);
      if (user === null) continue;
      Object.assign(user, { authProvider: { name: 'tokenFile', config: { tokenFile } }, token: undefined });
    }
  }
}

/** @throws TwillError `invalid` naming the file, and what is missing in it */
export async function loadKubeConfig(options: KubeConfigOptions): Promise<KubeConfig> {
  // Only the configuration part of the library: the whole costs half a second and 80 MB.
  const { KubeConfig } = await import('@kubernetes/client-node/dist/config.js');
  const config = new KubeConfig();
  const where = options.kubeconfig ?? 'service account or kubeconfig';
  try {
    if (options.kubeconfig !== undefined) config.loadFromFile(options.kubeconfig);
    else config.loadFromDefault();
  } catch (cause) {
    throw new TwillError('invalid', `cannot read the Kubernetes configuration (${where})`, cause);
  }
  addTokenFiles(config, options.kubeconfig);
  const cluster = config.getCurrentCluster();
  if (cluster === null) {
    throw new TwillError('invalid', `${where}: names no cluster: set its current-context`);
  }
  const user = config.getContextObject(config.getCurrentContext())?.user;
  if (user && config.getCurrentUser() === null) {
    throw new TwillError('invalid', `${where}: its context names the user '${user}', who is not in it`);
  }
  if (options.master === undefined && options.kubeconfig === undefined && cluster.server === NOWHERE) {
    throw new TwillError(
      'invalid',
      'there is no Kubernetes configuration: give --kubeconfig, or --manifests to do without',
    );
  }
  // Before rules stand a proxy cannot use the API's own Service address, which a service account is told.
  if (options.master !== undefined) Object.assign(cluster, { server: options.master });
  // The library refuses plain HTTP (a local `kubectl proxy`, say) unless told not to verify what cannot be verified.
  if (cluster.server.startsWith('http:')) Object.assign(cluster, { skipTLSVerify: true });
  return config;
}
