import { accessSync, constants, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseAllDocuments } from 'yaml';
import { type Certificates, makeCertificates } from '../../lab/certificates.ts';
import { root } from '../../lab/files.ts';
import type { Lab } from '../../lab/lab.ts';
import { LabProcess } from '../../lab/process.ts';
import { GiveUp } from '../../lab/wait.ts';
import {
  annotationsPatch,
  type KubeNode,
  type KubeNodes,
  kubeRequest,
  samePodCidrs,
  writeKubeconfig,
} from './kube-nodes.ts';

/** Paths of real programs, as controller-runtime's envtest names them. */
export interface KubeAssets {
  readonly apiServer: string;
  readonly etcd: string;
}

const variables = { apiServer: 'TEST_ASSET_KUBE_APISERVER', etcd: 'TEST_ASSET_ETCD' } as const;

/** The programs that the environment names; undefined when it names none. @throws Error when they cannot be used */
export function kubeAssets(env: NodeJS.ProcessEnv): KubeAssets | undefined {
  const { [variables.apiServer]: apiServer, [variables.etcd]: etcd } = env;
  if (!apiServer && !etcd) return undefined;
  if (!apiServer || !etcd)
    throw new Error(`${apiServer ? variables.etcd : variables.apiServer} is not set: both are needed`);
  for (const [name, path] of [
    [variables.apiServer, apiServer],
    [variables.etcd, etcd],
  ] as const) {
    try {
      accessSync(path, constants.X_OK);
    } catch (cause) {
      throw new Error(`${name}=${path} cannot be executed`, { cause });
    }
  }
  return { apiServer, etcd };
}

const address = '192.0.2.1';
const server = `https://${address}:6443`;
const tokens = { admin: 'token-of-the-administrator', agent: 'token-of-the-agents' } as const;

/** What envtest starts a kube-apiserver with, and tokens instead of client certificates. */
function apiServerArgs(directory: string, etcdUrl: string, { ca, server: own }: Certificates): string[] {
  return [
    `--etcd-servers=${etcdUrl}`,
    `--bind-address=${address}`,
    `--advertise-address=${address}`,
    '--secure-port=6443',
    `--cert-dir=${directory}`,
    `--tls-cert-file=${own.certificate}`,
    `--tls-private-key-file=${own.key}`,
    `--client-ca-file=${ca}`,
    `--token-auth-file=${join(directory, 'tokens.csv')}`,
    '--authorization-mode=RBAC',
    '--service-cluster-ip-range=10.96.0.0/16',
    `--service-account-issuer=${server}/`,
    `--service-account-key-file=${own.certificate}`,
    `--service-account-signing-key-file=${own.key}`,
    // Its controller does not run, so there are no service accounts to admit.
    '--disable-admission-plugins=ServiceAccount',
    '--allow-privileged=true',
  ];
}

async function startEtcd(lab: Lab, program: string, directory: string): Promise<string> {
  const client = 'http://127.0.0.1:23790';
  const peer = 'http://127.0.0.1:23800';
  const etcd = new LabProcess({
    name: 'etcd of the kube-apiserver',
    namespace: lab.underlay,
    program,
    args: [
      '--data-dir=etcd',
      `--listen-client-urls=${client}`,
      `--advertise-client-urls=${client}`,
      `--listen-peer-urls=${peer}`,
      `--initial-advertise-peer-urls=${peer}`,
      `--initial-cluster=default=${peer}`,
    ],
    cwd: directory,
    logFile: join(directory, 'etcd.log'),
  });
  await etcd.start();
  return client;
}

/** The rules that daemonset.yaml gives the agents. */
function agentRole(): { rules: object[] } {
  const documents = parseAllDocuments(readFileSync(join(root, 'daemonset.yaml'), 'utf8'));
  const role = documents.map((document) => document.toJS()).find(({ kind }) => kind === 'ClusterRole');
  return { rules: role.rules };
}

export interface RealKubeApi extends KubeNodes {
  /** For those who may what daemonset.yaml allows. */
  readonly kubeconfig: string;
  /** A request of the administrator. */
  readonly call: (method: string, path: string, body?: object) => Promise<{ status: number; text: string }>;
}

/** Starts a real etcd and a real kube-apiserver in the lab's underlay; the agents may there what daemonset.yaml allows. */
export async function realKubeApi(lab: Lab, assets: KubeAssets): Promise<RealKubeApi> {
  const directory = join(lab.dir, 'kube-apiserver');
  mkdirSync(directory);
  const certificates = await makeCertificates(directory, [address]);
  writeFileSync(
    join(directory, 'tokens.csv'),
    `${tokens.admin},admin,admin,system:masters\n${tokens.agent},twill-agent,twill-agent\n`,
    { mode: 0o600 },
  );
  const etcdUrl = await startEtcd(lab, assets.etcd, directory);
  const apiServer = new LabProcess({
    name: 'kube-apiserver',
    namespace: lab.underlay,
    program: assets.apiServer,
    args: apiServerArgs(directory, etcdUrl, certificates),
    cwd: directory,
    logFile: join(directory, 'kube-apiserver.log'),
  });
  await apiServer.start();

  const call = async (method: string, path: string, body?: object, type = 'application/json') => {
    const headers = { authorization: `Bearer ${tokens.admin}`, 'content-type': type };
    return await kubeRequest(
      lab,
      `${server}${path}`,
      { method, headers, ...(body === undefined ? {} : { body: JSON.stringify(body) }) },
      { NODE_EXTRA_CA_CERTS: certificates.ca },
    );
  };
  const must = async (...request: Parameters<typeof call>): Promise<string> => {
    const { status, text } = await call(...request);
    if (status >= 300) throw new Error(`${request[0]} ${request[1]}: ${status} ${text}`);
    return text;
  };
  await lab.waitFor(
    'the kube-apiserver to be ready',
    async () => {
      if (!apiServer.running) throw new GiveUp(`the kube-apiserver has ended\n${apiServer.tail()}`);
      return (await call('GET', '/readyz')).status === 200;
    },
    { timeoutMs: 120_000, explain: () => apiServer.tail() },
  );

  const rbac = '/apis/rbac.authorization.k8s.io/v1';
  const meta = { apiVersion: 'rbac.authorization.k8s.io/v1', metadata: { name: 'twill' } };
  await must('POST', `${rbac}/clusterroles`, { ...meta, kind: 'ClusterRole', ...agentRole() });
  await must('POST', `${rbac}/clusterrolebindings`, {
    ...meta,
    kind: 'ClusterRoleBinding',
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'twill' },
    subjects: [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'User', name: 'twill-agent' }],
  });

  const nodes = '/api/v1/nodes';
  const read = async (name: string): Promise<KubeNode> =>
    JSON.parse(await must('GET', `${nodes}/${name}`)) as KubeNode;
  const remove = async (name: string): Promise<void> => {
    await must('DELETE', `${nodes}/${name}`);
  };
  const create = async ({ metadata: { name, annotations }, spec, status }: KubeNode): Promise<void> => {
    await must('POST', nodes, { apiVersion: 'v1', kind: 'Node', metadata: { name, annotations }, spec });
    const merge = 'application/strategic-merge-patch+json';
    await must('PATCH', `${nodes}/${name}/status`, { status }, merge);
  };
  const kubeconfig = writeKubeconfig(lab, server, certificates.ca, tokens.agent);
  return {
    kubeconfig,
    call,
    agentArgs: [`--kubeconfig-file=${kubeconfig}`],
    read,
    delete: remove,
    async put(node) {
      const { name } = node.metadata;
      const { status, text } = await call('GET', `${nodes}/${name}`);
      const standing = status === 200 ? (JSON.parse(text) as KubeNode) : undefined;
      if (standing !== undefined && samePodCidrs(standing, node)) {
        const merge = 'application/merge-patch+json';
        await must('PATCH', `${nodes}/${name}`, annotationsPatch(standing, node), merge);
        return;
      }
      // A podCIDR that is set cannot be changed.
      if (standing !== undefined) await remove(name);
      await create(node);
    },
  };
}
