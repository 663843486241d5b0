import { stringify } from 'yaml';
import type { IptablesVariant } from '../../src/kernel/iptables.ts';
import { tableName } from '../../src/services/nftables/plan/names.ts';
import { Lab } from './lab.ts';
import { Namespace } from './namespace.ts';
import type { LabNode } from './node.ts';
import { Place } from './place.ts';

/** What a proxy writes its rules with. */
export type RulesKind = IptablesVariant | 'nftables';

/** What `twill proxy` is told. */
export function modeFlags(kind: RulesKind): string[] {
  return kind === 'nftables' ? ['--proxy-mode=nftables'] : [];
}

/** How the tests of a kind are called. */
export function kindName(kind: RulesKind): string {
  return kind === 'nftables' ? 'nftables' : `iptables-${kind}`;
}

export const rulesKinds: readonly RulesKind[] = ['nft', 'legacy', 'nftables'];

/** Where a node's rules send connections on to, each `address:port` once; what leads to that is not looked at. */
export async function dnatTargets(node: LabNode, kind: RulesKind): Promise<Set<string>> {
  const nftables = kind === 'nftables';
  const text = nftables
    ? await node.exec('nft', ['list', 'map', 'ip', tableName, 'endpoints-tcp'])
    : await node.exec(`iptables-${kind}`, ['-t', 'nat', '-S']);
  const target = nftables ? /: ([\d.]+) \. (\d+)/g : /--to-destination ([\d.]+):(\d+)/g;
  return new Set([...text.matchAll(target)].map(([, address, port]) => `${address}:${port}`));
}

export interface ServiceLabOptions {
  readonly nodes?: number;
  /** The variant of iptables that the node uses besides. */
  readonly variant?: RulesKind;
}

/** Pods of node N are 10.244.N.x and fd00:244:N::x. */
export const podNetwork = { ipv4: '10.244.0.0/16', ipv6: 'fd00:244::/32' };

/**
 * A lab whose pods are wired and routed by hand, so that tests of the proxy depend on the proxy alone. Nodes forward,
 * each has a bridge with its pods, and plain routes lead from node to node.
 */
export class ServiceLab {
  readonly lab: Lab;
  private readonly podCounts = new Map<LabNode, number>();

  private constructor(lab: Lab) {
    this.lab = lab;
  }

  static async start(options: ServiceLabOptions = {}): Promise<ServiceLab> {
    const lab = await Lab.start({ nodes: options.nodes ?? 2, networkConfig: null });
    try {
      await Promise.all(lab.nodes.map((node, index) => ServiceLab.setUpNode(lab, node, index + 1, options)));
      return new ServiceLab(lab);
    } catch (error) {
      await lab.stop();
      throw error;
    }
  }

  /** Adds a pod on a node: `eth0` on the node's bridge, hairpin on. It does not serve yet. */
  async addPod(node: LabNode, name: string): Promise<Place> {
    const number = this.lab.nodes.indexOf(node) + 1;
    const host = (this.podCounts.get(node) ?? 1) + 1;
    this.podCounts.set(node, host);
    const ipv4 = `10.244.${number}.${host}`;
    const ipv6 = `fd00:244:${number}::${host.toString(16)}`;
    const namespace = await Namespace.make(`${node.name}-${name}`, this.lab.guard);
    const port = `veth${host}`;
    await namespace.ip(
      `link add eth0 type veth peer name ${port} netns ${node.namespace.name}`,
      'link set eth0 up',
      `address add ${ipv4}/24 dev eth0`,
      `address add ${ipv6}/64 dev eth0 nodad`,
      `route add default via 10.244.${number}.1`,
      `route add default via fd00:244:${number}::1`,
    );
    await node.namespace.ip(
      `link set ${port} master cni0 up`,
      `link set ${port} type bridge_slave hairpin on`,
    );
    return new Place(name, namespace, { ipv4, ipv6 });
  }

  /** Adds a pod that answers on `servicePort` with its name. */
  async addServer(node: LabNode, name: string): Promise<Place> {
    const pod = await this.addPod(node, name);
    await pod.serve();
    return pod;
  }

  /** Writes objects into one manifest file. */
  write(file: string, ...objects: readonly Record<string, unknown>[]): void {
    this.lab.writeManifest(file, objects.map((object) => `---\n${stringify(object)}`).join(''));
  }

  /** Starts the proxy of each node and waits until its rules stand. */
  async startProxies(extraArgs: readonly string[] = []): Promise<void> {
    await Promise.all(this.lab.nodes.map((node) => this.startProxy(node, extraArgs)));
  }

  async startProxy(node: LabNode, extraArgs: readonly string[] = []): Promise<void> {
    await node.startProxy(extraArgs);
    await this.ready(node);
  }

  /** Resolves when the node's proxy says on /readyz that its rules stand. */
  async ready(node: LabNode): Promise<void> {
    await this.lab.waitFor(`the proxy of ${node.name} to be ready`, async () => {
      node.proxy!.pid; // throws, with the log, once it has ended
      return (await this.get(node, 10_256, '/readyz')).startsWith('HTTP/1.1 200');
    });
  }

  /** The answer, headers included, of an HTTP server that listens on the node itself. */
  get(node: LabNode, port: number, path: string): Promise<string> {
    return httpGet(node, '127.0.0.1', port, path);
  }

  async stop(): Promise<void> {
    await this.lab.stop();
  }

  private static async setUpNode(
    lab: Lab,
    node: LabNode,
    number: number,
    options: ServiceLabOptions,
  ): Promise<void> {
    const sysctls = ['/proc/sys/net/ipv4/ip_forward', '/proc/sys/net/ipv6/conf/all/forwarding'];
    await node.exec('tee', sysctls, { input: '1' });
    await node.namespace.ip(
      'link add cni0 type bridge',
      'link set cni0 up',
      `address add 10.244.${number}.1/24 dev cni0`,
      `address add fd00:244:${number}::1/64 dev cni0 nodad`,
      ...lab.nodes.flatMap((other, index) =>
        other === node
          ? []
          : [
              `route add 10.244.${index + 1}.0/24 via ${other.ipv4}`,
              `route add fd00:244:${index + 1}::/64 via ${other.ipv6}`,
            ],
      ),
    );
    // The chain by which kubelet tells which variant a node uses.
    const variant = options.variant === 'legacy' ? 'legacy' : 'nft';
    for (const program of ['iptables', 'ip6tables'])
      await node.exec(`${program}-${variant}`, ['-t', 'mangle', '-N', 'KUBE-IPTABLES-HINT']);
  }
}

/** The answer, headers included, to an HTTP request from a place. @throws TwillError when there is none */
export function httpGet(from: Place, address: string, port: number, path: string): Promise<string> {
  const request = `GET ${path} HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n`;
  const script = `exec 3<>/dev/tcp/${address}/${port}; printf '${request}' >&3; cat <&3`;
  return from.exec('bash', ['-c', script], { timeoutMs: 5000 });
}

/** Runs `work` with a service lab and removes it whatever happens. */
export async function withServiceLab<T>(
  options: ServiceLabOptions,
  work: (services: ServiceLab) => Promise<T>,
): Promise<T> {
  const services = await ServiceLab.start(options);
  try {
    return await work(services);
  } finally {
    await services.stop();
  }
}
