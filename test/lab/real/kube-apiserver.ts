/** A real kube-apiserver in the lab's underlay, with what a cluster of kubeadm's has in it. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Certificates, makeCertificates } from '../certificates.ts';
import { type ApiRequest, type ApiResponse, kubeRequests } from '../kube-request.ts';
import type { Lab } from '../lab.ts';
import { type Manifest, readManifests } from '../manifests.ts';
import { LabProcess } from '../process.ts';
import { GiveUp, waitFor } from '../wait.ts';
import type { KubeAssets } from './assets.ts';

const apiAddress = '192.0.2.1';
export const server = `https://${apiAddress}:6443`;

/** Tokens of the server's file: what a cluster of kubeadm's has client certificates for. */
export const adminToken = 'token-of-the-administrator';
export const componentToken = (name: string): string => `token-of-${name}`;
export const kubeletToken = (node: string): string => `token-of-the-kubelet-of-${node}`;

/** Token, user, uid, group. */
function tokenFile(nodes: readonly string[]): string {
  const component = (name: string): string =>
    `${componentToken(name)},system:${name},${name},system:authenticated\n`;
  return [
    `${adminToken},admin,admin,system:masters\n`,
    ...['kube-controller-manager', 'kube-scheduler'].map(component),
    ...nodes.map((node) => `${kubeletToken(node)},system:node:${node},${node},system:nodes\n`),
  ].join('');
}

/** What envtest starts a kube-apiserver with, tokens instead of client certificates, and what kubeadm has it do. */
function apiServerArgs(directory: string, etcdUrl: string, certificates: Certificates): string[] {
  const { ca, server: own, client } = certificates;
  return [
    `--etcd-servers=${etcdUrl}`,
    `--bind-address=${apiAddress}`,
    `--advertise-address=${apiAddress}`,
    '--secure-port=6443',
    `--cert-dir=${directory}`,
    `--tls-cert-file=${own.certificate}`,
    `--tls-private-key-file=${own.key}`,
    `--client-ca-file=${ca}`,
    `--token-auth-file=${join(directory, 'tokens.csv')}`,
    '--authorization-mode=Node,RBAC',
    '--enable-admission-plugins=NodeRestriction',
    '--service-cluster-ip-range=10.96.0.0/16',
    '--service-account-issuer=https://kubernetes.default.svc',
    `--service-account-key-file=${own.certificate}`,
    `--service-account-signing-key-file=${own.key}`,
    `--kubelet-client-certificate=${client.certificate}`,
    `--kubelet-client-key=${client.key}`,
    '--kubelet-preferred-address-types=InternalIP',
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

/** Where the API keeps objects of a kind. */
const collections: Readonly<Record<string, string>> = {
  ClusterRole: 'clusterroles',
  ClusterRoleBinding: 'clusterrolebindings',
  ConfigMap: 'configmaps',
  DaemonSet: 'daemonsets',
  EndpointSlice: 'endpointslices',
  Namespace: 'namespaces',
  Node: 'nodes',
  Pod: 'pods',
  Role: 'roles',
  RoleBinding: 'rolebindings',
  Secret: 'secrets',
  Service: 'services',
  ServiceAccount: 'serviceaccounts',
  ValidatingAdmissionPolicy: 'validatingadmissionpolicies',
  ValidatingAdmissionPolicyBinding: 'validatingadmissionpolicybindings',
};

interface RequestOptions {
  readonly type?: string;
  readonly token?: string;
}

export type ObjectName = Pick<Manifest, 'apiVersion' | 'kind' | 'metadata'>;

/** The path of an object. @throws Error when its kind is not among those that tests use */
export function pathOf({ apiVersion, kind, metadata: { name, namespace } }: ObjectName): string {
  const collection = collections[kind];
  if (collection === undefined) throw new Error(`where are objects of kind ${kind}?`);
  const group = apiVersion.includes('/') ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
  return `${group}${namespace === undefined ? '' : `/namespaces/${namespace}`}/${collection}/${name}`;
}

export class KubeApiServer {
  readonly certificates: Certificates;
  readonly directory: string;
  readonly process: LabProcess;
  private readonly lab: Lab;

  private constructor(lab: Lab, directory: string, certificates: Certificates, process: LabProcess) {
    this.lab = lab;
    this.directory = directory;
    this.certificates = certificates;
    this.process = process;
  }

  /** Starts an etcd and a kube-apiserver. */
  static async start(lab: Lab, assets: KubeAssets): Promise<KubeApiServer> {
    const directory = join(lab.dir, 'kube-apiserver');
    mkdirSync(directory);
    const certificates = await makeCertificates(directory, [apiAddress, '10.96.0.1']);
    const tokens = tokenFile(lab.nodes.map(({ name }) => name));
    writeFileSync(join(directory, 'tokens.csv'), tokens, { mode: 0o600 });
    const etcdUrl = await startEtcd(lab, assets.etcd, directory);
    const process = new LabProcess({
      name: 'kube-apiserver',
      namespace: lab.underlay,
      program: assets.apiServer,
      args: apiServerArgs(directory, etcdUrl, certificates),
      cwd: directory,
      logFile: join(directory, 'kube-apiserver.log'),
    });
    await process.start();
    const api = new KubeApiServer(lab, directory, certificates, process);
    await api.ready();
    return api;
  }

  /** A request of the administrator, or of whose token is given. */
  async call(method: string, path: string, body?: object, how: RequestOptions = {}): Promise<ApiResponse> {
    const [answer] = await this.callAll([this.request(method, path, body, how)]);
    return answer!;
  }

  request(method: string, path: string, body?: object, how: RequestOptions = {}): ApiRequest {
    const { type = 'application/json', token = adminToken } = how;
    const headers = { authorization: `Bearer ${token}`, 'content-type': type };
    const content = body === undefined ? {} : { body: JSON.stringify(body) };
    return { url: `${server}${path}`, method, headers, ...content };
  }

  /** Sends them one after the other. */
  callAll(requests: readonly ApiRequest[]): Promise<ApiResponse[]> {
    return kubeRequests(this.lab, requests, { NODE_EXTRA_CA_CERTS: this.certificates.ca });
  }

  /** The same. @returns the body @throws Error with what the server said when it refused */
  async must(...request: Parameters<KubeApiServer['call']>): Promise<string> {
    const { status, text } = await this.call(...request);
    if (status >= 300) throw new Error(`${request[0]} ${request[1]}: ${status} ${text}`);
    return text;
  }

  /**
   * Creates objects or makes them as given, as `kubectl apply --server-side` does.
   * @throws Error with what the server said when it refused one, or warned of anything in it
   */
  async apply(...objects: readonly ObjectName[]): Promise<void> {
    const how = '?fieldManager=lab&force=true&fieldValidation=Strict';
    const type = 'application/apply-patch+yaml';
    const requests = objects.map((object) =>
      this.request('PATCH', `${pathOf(object)}${how}`, object, { type }),
    );
    for (const [index, { status, text, warning }] of (await this.callAll(requests)).entries()) {
      const { kind, metadata } = objects[index]!;
      if (status >= 300 || warning !== null)
        throw new Error(`${kind} ${metadata.name}: ${status} ${warning ?? ''} ${text}`);
    }
  }

  /** Everything of a file of the repository's, in its order. */
  applyFile(file: string): Promise<void> {
    return this.apply(...readManifests(file));
  }

  /**
   * The token that a pod of this service account has on this node, made as a kubelet has it made: it ends with the pod.
   * @param account as in daemonset.yaml, which has to be there
   */
  async tokenOf(account: string, node: string): Promise<string> {
    const name = `${account}-${node}`;
    const pod = {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name, namespace: 'twill' },
      spec: { nodeName: node, serviceAccountName: account, containers: [{ name: 'none', image: 'none' }] },
    };
    const made = await waitFor('the pod of a token', async () => {
      const standing = await this.call('GET', pathOf(pod));
      return standing.status === 200 ? standing.text : await this.must('POST', podsOf('twill'), pod);
    });
    const { uid } = (JSON.parse(made) as { metadata: { uid: string } }).metadata;
    const boundObjectRef = { apiVersion: 'v1', kind: 'Pod', name, uid };
    const text = await this.must('POST', `/api/v1/namespaces/twill/serviceaccounts/${account}/token`, {
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'TokenRequest',
      spec: { boundObjectRef },
    });
    return (JSON.parse(text) as { status: { token: string } }).status.token;
  }

  /** A kubeconfig with a token. @returns its path */
  kubeconfig(name: string, token: string): string {
    const path = join(this.directory, `${name}.kubeconfig`);
    writeFileSync(path, JSON.stringify(kubeconfig(this.certificates.ca, token)), { mode: 0o600 });
    return path;
  }

  private async ready(): Promise<void> {
    await this.lab.waitFor(
      'the kube-apiserver to be ready',
      async () => {
        if (!this.process.running) throw new GiveUp(`the kube-apiserver has ended\n${this.process.tail()}`);
        return (await this.call('GET', '/readyz')).status === 200;
      },
      { timeoutMs: 120_000, explain: () => this.process.tail() },
    );
  }
}

const podsOf = (namespace: string): string => `/api/v1/namespaces/${namespace}/pods`;

/** @param ca path of the file with the authority's certificate, where the kubeconfig is read */
export function kubeconfig(ca: string, token: string): object {
  return {
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'lab', cluster: { server, 'certificate-authority': ca } }],
    users: [{ name: 'lab', user: { token } }],
    contexts: [{ name: 'lab', context: { cluster: 'lab', user: 'lab' } }],
    'current-context': 'lab',
  };
}
