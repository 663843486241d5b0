import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeCertificates } from './certificates.ts';
import { LabEtcd } from './etcd.ts';
import { Guard } from './guard.ts';
import type { Namespace } from './namespace.ts';
import { LabNode } from './node.ts';
import type { Place } from './place.ts';
import type { LabProcess } from './process.ts';
import { buildUnderlay, planUnderlay } from './underlay.ts';
import { type WaitOptions, waitFor } from './wait.ts';

export interface LabOptions {
  /** Default 3. */
  readonly nodes?: number;
  /** The JSON that is put under /coreos.com/network/config; null to put nothing. Default 10.244.0.0/16 over VXLAN. */
  readonly networkConfig?: object | null;
  /** Families of the underlay; default both. */
  readonly underlay?: 'ipv4' | 'ipv6' | 'dual';
  /** etcd serves TLS only, with certificates of the lab's own, and asks for the client's; needs openssl. */
  readonly etcdTls?: boolean;
  /** etcd's users get signed tokens. */
  readonly etcdSignedTokens?: boolean;
  /** `--cluster-cidr` of the proxies; default 10.244.0.0/16. */
  readonly clusterCidr?: string;
}

export const etcdPrefix = '/coreos.com/network';
/**
 * The pods' network. Agents draw subnets below 10.244.40.0: those which tests write by hand for nodes that are none are above,
 * and never by chance an agent's.
 */
export const podSubnets = { Network: '10.244.0.0/16', SubnetMin: '10.244.1.0', SubnetMax: '10.244.39.0' };
export const defaultNetworkConfig = { ...podSubnets, Backend: { Type: 'vxlan' } };

/** A cluster on this machine: everything of it is in namespaces, processes and one directory of its own. */
export class Lab {
  readonly guard: Guard;
  readonly etcd: LabEtcd;
  readonly nodes: readonly LabNode[];
  /** Outside of the cluster: behind the router that the underlay is for the nodes. */
  readonly client: Place;
  readonly underlay: Namespace;
  /** The lab's temporary directory. */
  readonly dir: string;
  /** The directory of YAML files that the proxies watch. */
  readonly manifests: string;

  private constructor(parts: Pick<Lab, 'guard' | 'etcd' | 'nodes' | 'client' | 'underlay' | 'manifests'>) {
    this.guard = parts.guard;
    this.etcd = parts.etcd;
    this.nodes = parts.nodes;
    this.client = parts.client;
    this.underlay = parts.underlay;
    this.manifests = parts.manifests;
    this.dir = parts.guard.directory;
  }

  /** Underlay, nodes, client and a running etcd with the network configuration; agents and proxies are up to you. */
  static async start(options: LabOptions = {}): Promise<Lab> {
    const guard = await Guard.start();
    try {
      const plan = planUnderlay(options.nodes ?? 3, options.underlay ?? 'dual');
      const { underlay, nodes, client } = await buildUnderlay(guard, plan);
      const manifests = join(guard.directory, 'manifests');
      mkdirSync(manifests);
      const directory = join(guard.directory, 'etcd');
      mkdirSync(directory);
      const addresses = Object.values(plan.router);
      const tls = options.etcdTls ? { certificates: await makeCertificates(directory, addresses) } : {};
      const { etcdSignedTokens: signedTokens = false } = options;
      const etcd = new LabEtcd({ namespace: underlay, directory, addresses, signedTokens, ...tls });
      await etcd.start();
      if (options.networkConfig !== null)
        await etcd.put(`${etcdPrefix}/config`, JSON.stringify(options.networkConfig ?? defaultNetworkConfig));
      const clusterCidr = options.clusterCidr ?? defaultNetworkConfig.Network;
      const shared = { guard, underlay, etcdEndpoint: etcd.endpoint, manifests, clusterCidr };
      const labNodes = nodes.map(
        ({ machine, namespace }) =>
          new LabNode({ ...shared, machine, namespace, directory: join(guard.directory, machine.name) }),
      );
      return new Lab({ guard, etcd, nodes: labNodes, client, underlay, manifests });
    } catch (error) {
      await guard.close();
      throw error;
    }
  }

  /** Starts agent and proxy on every node and waits for the agents. */
  async startTwill(): Promise<void> {
    await Promise.all(
      this.nodes.map(async (node) => {
        await Promise.all([node.startAgent(), node.startProxy()]);
      }),
    );
  }

  /** Writes a YAML file that the proxies watch, at once: one that is read while it is written has not all Services. */
  writeManifest(name: string, text: string): void {
    const written = join(this.dir, 'manifest-to-be');
    writeFileSync(written, text);
    renameSync(written, join(this.manifests, name));
  }

  removeManifest(name: string): void {
    rmSync(join(this.manifests, name));
  }

  /** Like the function of that name, and shows the last lines of every process's log when the time is over. */
  waitFor<T>(
    what: string,
    check: () => T | undefined | false | Promise<T | undefined | false>,
    options: WaitOptions = {},
  ): Promise<T> {
    return waitFor(what, check, { explain: () => this.tails(), ...options });
  }

  /** The last lines of every process's log. */
  tails(): string {
    return this.processes()
      .map((process) => process.tail())
      .join('\n');
  }

  /** Removes everything and resolves when it is gone. */
  async stop(): Promise<void> {
    this.etcd.close();
    await this.guard.close();
  }

  /** Leaves everything standing after this process has ended; `cleanUp(lab.guard.id)` removes it. */
  async keep(): Promise<void> {
    this.etcd.close();
    await this.guard.keep();
  }

  /** etcd, and every agent and proxy that was started. */
  processes(): LabProcess[] {
    const ofNodes = this.nodes.flatMap((node) => [node.agent, node.proxy]);
    return [this.etcd.process, ...ofNodes].filter((process) => process !== undefined);
  }
}

/** Runs `work` with a lab and removes it whatever happens. */
export async function withLab<T>(options: LabOptions, work: (lab: Lab) => Promise<T>): Promise<T> {
  const lab = await Lab.start(options);
  let result: T;
  try {
    result = await work(lab);
  } catch (error) {
    await lab.stop().catch(() => {}); // the first failure is the one to show
    throw error;
  }
  await lab.stop();
  return result;
}
