/** Real Kubernetes programs: they are neither in this repository nor in Debian. */
import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';

/** Paths of real programs, as controller-runtime's envtest names them. */
export interface KubeAssets {
  readonly apiServer: string;
  readonly etcd: string;
}

/** What a whole cluster is made of. */
export interface ClusterAssets extends KubeAssets {
  readonly controllerManager: string;
  readonly scheduler: string;
  readonly kubelet: string;
  readonly kubectl: string;
}

const folderVariable = 'TEST_ASSETS_KUBERNETES';

function executable(name: string, path: string): string {
  try {
    accessSync(path, constants.X_OK);
  } catch (cause) {
    throw new Error(`${name}=${path} cannot be executed`, { cause });
  }
  return path;
}

function etcd(env: NodeJS.ProcessEnv): string {
  const { TEST_ASSET_ETCD: path } = env;
  // Debian's, which is there anyway.
  return path ? executable('TEST_ASSET_ETCD', path) : 'etcd';
}

/** The kube-apiserver that the environment names; undefined when it names none. @throws Error when it cannot be used */
export function kubeAssets(env: NodeJS.ProcessEnv): KubeAssets | undefined {
  const { TEST_ASSET_KUBE_APISERVER: path, [folderVariable]: folder } = env;
  if (path) return { apiServer: executable('TEST_ASSET_KUBE_APISERVER', path), etcd: etcd(env) };
  if (!folder) return undefined;
  return { apiServer: executable(folderVariable, join(folder, 'kube-apiserver')), etcd: etcd(env) };
}

/** What is in the folder that the environment names; undefined when it names none. @throws Error when one is missing */
export function clusterAssets(env: NodeJS.ProcessEnv): ClusterAssets | undefined {
  const { [folderVariable]: folder } = env;
  if (!folder) return undefined;
  const program = (name: string): string => executable(folderVariable, join(folder, name));
  return {
    apiServer: program('kube-apiserver'),
    controllerManager: program('kube-controller-manager'),
    scheduler: program('kube-scheduler'),
    kubelet: program('kubelet'),
    kubectl: program('kubectl'),
    etcd: etcd(env),
  };
}
