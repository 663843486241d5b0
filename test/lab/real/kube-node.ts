/** A node of a real cluster: containerd and a kubelet on a host of its own, with no CNI configuration at first. */
import { copyFileSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { LabNode } from '../node.ts';
import type { LabProcess } from '../process.ts';
import { waitFor } from '../wait.ts';
import { Host } from './host.ts';
import { type KubeApiServer, kubeconfig, kubeletToken } from './kube-apiserver.ts';

/** The CRI plugin has it set up `lo`. */
const loopbackPlugin = '/usr/lib/cni/loopback';
export const sandboxImage = 'images.invalid/busybox:1';
const runtimeSocket = '/run/containerd/containerd.sock';

const containerdConfig = `version = 2
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "${sandboxImage}"
disable_apparmor = true
restrict_oom_score_adj = true
`;

/** As kubeadm has it, but for control groups: this is a node of the lab, whose own need no bounds. */
function kubeletConfig(ca: string): object {
  return {
    apiVersion: 'kubelet.config.k8s.io/v1beta1',
    kind: 'KubeletConfiguration',
    authentication: {
      anonymous: { enabled: false },
      x509: { clientCAFile: ca },
      webhook: { enabled: false },
    },
    authorization: { mode: 'AlwaysAllow' },
    cgroupDriver: 'cgroupfs',
    cgroupsPerQOS: false,
    enforceNodeAllocatable: ['none'],
    failCgroupV1: false,
    failSwapOn: false,
    localStorageCapacityIsolation: false,
    clusterDNS: ['10.96.0.53'],
    clusterDomain: 'cluster.local',
    containerRuntimeEndpoint: `unix://${runtimeSocket}`,
    volumePluginDir: '/var/lib/kubelet/volume-plugins',
    // The disk is this machine's: nothing is to be thrown away or away from for its sake.
    imageGCHighThresholdPercent: 100,
    evictionHard: { 'memory.available': '1Mi', 'nodefs.available': '0%', 'imagefs.available': '0%' },
  };
}

export interface KubeNodeOptions {
  readonly node: LabNode;
  readonly api: KubeApiServer;
  /** Path of the program. */
  readonly kubelet: string;
  /** Files as `ctr images import` takes them. */
  readonly images: readonly string[];
}

export class KubeNode {
  readonly node: LabNode;
  readonly host: Host;
  readonly kubelet: LabProcess;
  readonly containerd: LabProcess;

  private constructor(node: LabNode, host: Host, containerd: LabProcess, kubelet: LabProcess) {
    this.node = node;
    this.host = host;
    this.containerd = containerd;
    this.kubelet = kubelet;
  }

  /** Resolves when containerd knows the images; the kubelet is to be started. */
  static async make({ node, api, kubelet, images }: KubeNodeOptions): Promise<KubeNode> {
    const host = await Host.start(node);
    const write = (path: string, text: string): void => {
      mkdirSync(join(host.path(path), '..'), { recursive: true });
      writeFileSync(host.path(path), text, { mode: 0o600 });
    };
    mkdirSync(host.path('/opt/cni/bin'), { recursive: true });
    copyFileSync(loopbackPlugin, host.path('/opt/cni/bin/loopback'));
    write('/etc/containerd/twill-lab.toml', containerdConfig);
    const { ca } = api.certificates;
    write('/etc/kubernetes/kubelet.conf', JSON.stringify(kubeconfig(ca, kubeletToken(node.name))));
    write('/var/lib/kubelet/config.yaml', JSON.stringify(kubeletConfig(ca)));
    const containerd = host.process('containerd', 'containerd', ['--config=/etc/containerd/twill-lab.toml']);
    await containerd.start();
    const ctr = (...args: string[]) => host.run('ctr', ['--namespace=k8s.io', ...args]);
    await waitFor(`containerd of ${node.name}`, async () => (await ctr('version')).status === 0, {
      explain: () => containerd.tail(),
    });
    for (const image of images) {
      const { status, stderr } = await ctr('images', 'import', image);
      if (status !== 0) throw new Error(`importing ${image}: ${stderr}\n${containerd.tail()}`);
    }
    const args = [
      '--config=/var/lib/kubelet/config.yaml',
      '--kubeconfig=/etc/kubernetes/kubelet.conf',
      `--hostname-override=${node.name}`,
      `--node-ip=${node.ipv4}`,
    ];
    return new KubeNode(node, host, containerd, host.process('kubelet', kubelet, args));
  }

  /** Whether a file of the node's is there. */
  has(path: string): boolean {
    return existsSync(this.host.path(path));
  }

  tails(): string {
    return `${this.containerd.tail(10)}\n${this.kubelet.tail(40)}`;
  }
}
