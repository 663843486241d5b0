import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { type CniNode, dualStack, withCniNode } from './cni-node.ts';
import { type ChainOptions, type ChainPod, FlannelChain } from './flannel-chain.ts';
import type { Namespace } from './namespace.ts';

const network = '10.244.0.0/16';
const subnet = '10.244.7.0/24';

export const addressOf = (result: { ips: { address: string }[] }): string =>
  result.ips[0]!.address.split('/')[0]!;
export const hostPort = (port: number) => ({
  portMappings: [{ hostPort: port, containerPort: 80, protocol: 'tcp' }],
});

export interface OldPod extends ChainPod {
  readonly namespace: Namespace;
}

export interface OldNode {
  readonly node: CniNode;
  readonly chain: FlannelChain;
  /** A pod that flannel's chain makes. */
  add(containerId: string, runtimeConfig?: object): Promise<OldPod>;
  natTable(): Promise<string>;
  reservations(): string[];
}

/** A node on which flannel's chain made pods before the agent came. */
export async function withOldNode(
  work: (old: OldNode) => Promise<void>,
  options: Partial<ChainOptions> = {},
): Promise<void> {
  await withCniNode(async (node) => {
    await node.stopServer();
    if (options.subnet6 !== undefined) node.subnets = dualStack;
    const dataDir = join(node.directory, 'cni-data');
    const chain = new FlannelChain({ node: node.namespace, dataDir, subnet, network, ...options });
    await work({
      node,
      chain,
      async add(containerId, runtimeConfig = {}) {
        const namespace = await node.pod();
        return { ...(await chain.add(containerId, namespace.path, runtimeConfig)), namespace };
      },
      natTable: () => node.namespace.exec('iptables-nft-save', ['-t', 'nat']),
      reservations: () =>
        readdirSync(join(dataDir, 'networks/cbr0')).filter((name) => /^[0-9.]+$/.test(name)),
    });
  });
}
