/** A whole real cluster: control plane in the lab's underlay, a kubelet with containerd on each of its nodes. */
import { copyFileSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { TwillError } from '../../../src/model/error.ts';
import { ownerVariable } from '../cleanup.ts';
import { Lab } from '../lab.ts';
import { writeImage } from '../oci-image.ts';
import { LabProcess } from '../process.ts';
import { waitFor } from '../wait.ts';
import type { ClusterAssets } from './assets.ts';
import { makeImageRoot } from './image.ts';
import { adminToken, componentToken, KubeApiServer } from './kube-apiserver.ts';
import { KubeNode, sandboxImage } from './kube-node.ts';

/** Where kubeadm keeps the pod network. */
const kubeadmConfig = {
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { namespace: 'kube-system', name: 'kubeadm-config' },
  data: {
    ClusterConfiguration: stringify({
      kind: 'ClusterConfiguration',
      networking: { dnsDomain: 'cluster.local', podSubnet: '10.244.0.0/16', serviceSubnet: '10.96.0.0/16' },
    }),
  },
};

/** Controllers and scheduler, each with a token of its own; controllers work with their own service accounts. */
async function startControllers(lab: Lab, api: KubeApiServer, assets: ClusterAssets): Promise<LabProcess[]> {
  const { ca, server } = api.certificates;
  const programs = {
    'kube-controller-manager': [
      assets.controllerManager,
      '--allocate-node-cidrs',
      '--cluster-cidr=10.244.0.0/16',
      '--service-cluster-ip-range=10.96.0.0/16',
      '--use-service-account-credentials',
      `--service-account-private-key-file=${server.key}`,
      `--root-ca-file=${ca}`,
    ],
    'kube-scheduler': [assets.scheduler],
  };
  return await Promise.all(
    Object.entries(programs).map(async ([name, [program, ...args]]) => {
      const kubeconfig = api.kubeconfig(name, componentToken(name));
      const process = new LabProcess({
        name,
        namespace: lab.underlay,
        program: program!,
        args: [
          ...args,
          `--kubeconfig=${kubeconfig}`,
          `--authentication-kubeconfig=${kubeconfig}`,
          `--authorization-kubeconfig=${kubeconfig}`,
          '--bind-address=127.0.0.1',
          '--leader-elect=false',
        ],
        cwd: api.directory,
        logFile: join(api.directory, `${name}.log`),
      });
      await process.start();
      return process;
    }),
  );
}

/** Busybox, for sandboxes and for pods of tests. */
function makeBusyboxRoot(folder: string): void {
  for (const name of ['bin', 'dev', 'etc', 'proc', 'sys', 'tmp', 'www', 'var'])
    mkdirSync(join(folder, name), { recursive: true });
  copyFileSync('/bin/busybox', join(folder, 'bin/busybox'));
  for (const applet of ['sh', 'cat', 'httpd', 'sleep']) symlinkSync('busybox', join(folder, 'bin', applet));
}

/** @returns the files with the images, as `ctr images import` takes them */
async function makeImages(lab: Lab, twill: string): Promise<string[]> {
  const environment = [
    `${ownerVariable}=${lab.guard.id}`,
    'PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  ];
  const folder = (name: string): string => {
    const path = join(lab.dir, 'images', name);
    mkdirSync(path, { recursive: true });
    return path;
  };
  const busybox = folder('busybox-root');
  makeBusyboxRoot(busybox);
  // `npm run image` leaves the image's file system; without it the image is of this machine's files.
  const { TWILL_IMAGE_ROOT: built } = process.env;
  const twillRoot = built ?? folder('twill-root');
  if (built === undefined) await makeImageRoot(twillRoot);
  return await Promise.all([
    writeImage(folder('busybox'), {
      name: sandboxImage,
      rootfs: busybox,
      entrypoint: ['/bin/busybox', 'tail', '-f', '/dev/null'],
      environment,
    }),
    writeImage(folder('twill'), {
      name: twill,
      rootfs: twillRoot,
      entrypoint: ['/usr/local/bin/twill'],
      environment: [...environment, 'NODE_ENV=production'],
    }),
  ]);
}

export class Cluster {
  readonly lab: Lab;
  readonly api: KubeApiServer;
  readonly nodes: readonly KubeNode[];
  private readonly kubectlProgram: string;
  private readonly controllers: readonly LabProcess[];

  private constructor(
    parts: Pick<Cluster, 'lab' | 'api' | 'nodes'>,
    kubectl: string,
    controllers: LabProcess[],
  ) {
    this.lab = parts.lab;
    this.api = parts.api;
    this.nodes = parts.nodes;
    this.kubectlProgram = kubectl;
    this.controllers = controllers;
  }

  /** Nodes that have joined and have no pod network, as after `kubeadm init` and `kubeadm join`. */
  static async start(assets: ClusterAssets, count: number): Promise<Cluster> {
    const lab = await Lab.start({ nodes: count, underlay: 'ipv4', networkConfig: null });
    try {
      const [api, images] = await Promise.all([
        KubeApiServer.start(lab, assets),
        makeImages(lab, 'docker.io/library/twill:0.1.0'),
      ]);
      await waitFor('the namespace kube-system', () => api.apply(kubeadmConfig).then(() => true));
      const controllers = await startControllers(lab, api, assets);
      const kubelet = join(lab.dir, 'kubelet');
      copyFileSync(assets.kubelet, kubelet);
      const nodes = await Promise.all(lab.nodes.map((node) => KubeNode.make({ node, api, kubelet, images })));
      api.kubeconfig('admin', adminToken);
      const cluster = new Cluster({ lab, api, nodes }, assets.kubectl, controllers);
      await cluster.join();
      return cluster;
    } catch (error) {
      await lab.stop();
      throw error;
    }
  }

  stop(): Promise<void> {
    return this.lab.stop();
  }

  /** Runs kubectl as the administrator. @returns its standard output @throws TwillError with what it said */
  async kubectl(...args: string[]): Promise<string> {
    const { status, stdout, stderr } = await this.lab.underlay.run(this.kubectlProgram, [
      `--kubeconfig=${join(this.api.directory, 'admin.kubeconfig')}`,
      `--cache-dir=${join(this.lab.dir, 'kubectl')}`,
      ...args,
    ]);
    if (status !== 0) throw new TwillError('internal', `kubectl ${args.join(' ')}: ${stdout}${stderr}`);
    // Warnings of the API server are there, too.
    return stdout + stderr;
  }

  /** An object or a list, as kubectl gets it. */
  async get<T>(...args: string[]): Promise<T> {
    return JSON.parse(await this.kubectl('get', ...args, '-o', 'json')) as T;
  }

  /** Creates or changes objects, as a user does it with a file. */
  async apply(...objects: readonly object[]): Promise<string> {
    const file = join(this.lab.dir, 'objects.yaml');
    writeFileSync(file, objects.map((object) => stringify(object)).join('---\n'));
    return await this.kubectl('apply', '-f', file);
  }

  /** Waits, and shows what all components said when the time is over. */
  waitFor<T>(what: string, check: () => Promise<T | undefined | false>, timeoutMs = 60_000): Promise<T> {
    return waitFor(what, check, { timeoutMs, explain: () => this.explain() });
  }

  private async explain(): Promise<string> {
    const pods = await this.kubectl('get', 'pods', '-A', '-o', 'wide').catch(String);
    const events = await this.kubectl('get', 'events', '-A').catch(String);
    const tails = [...this.controllers.map((one) => one.tail(10)), ...this.nodes.map((node) => node.tails())];
    return [pods, events.split('\n').slice(-40).join('\n'), ...tails].join('\n');
  }

  private async join(): Promise<void> {
    await Promise.all(this.nodes.map(({ kubelet }) => kubelet.start()));
    await this.waitFor('the nodes to join', async () => {
      const { items } = await this.get<{ items: { spec: { podCIDR?: string } }[] }>('nodes');
      return items.length === this.nodes.length && items.every(({ spec }) => spec.podCIDR !== undefined);
    });
  }
}
