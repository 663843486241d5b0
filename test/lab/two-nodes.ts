import { rmSync } from 'node:fs';
import { after, afterEach, before } from 'node:test';
import { defaultNetworkConfig, etcdPrefix, Lab, type LabOptions } from './lab.ts';
import type { LabNode } from './node.ts';

/** Where the leases are in etcd. */
export const subnetKeys = `${etcdPrefix}/subnets/`;

/** A network of three subnets. */
export const threeSubnets = { ...defaultNetworkConfig, SubnetMax: '10.244.3.0' };

export interface TwoNodes {
  readonly lab: Lab;
  readonly one: LabNode;
  readonly two: LabNode;
}

/**
 * Sets up one lab of two nodes for all tests of the suite that calls this; every test starts without agents, leases and
 * state.
 */
export function withTwoNodes(options: Omit<LabOptions, 'nodes'>, onReady: (made: TwoNodes) => void): void {
  let lab: Lab | undefined;

  before(async () => {
    lab = await Lab.start({ ...options, nodes: 2 });
    const [one, two] = lab.nodes as [LabNode, LabNode];
    onReady({ lab, one, two });
  });
  after(() => lab?.stop());

  afterEach(async () => {
    for (const node of lab!.nodes) {
      await node.agent?.stop();
      await node.namespace.run('ip', ['link', 'delete', 'flannel.1']);
      rmSync(node.stateDir, { recursive: true, force: true });
      rmSync(node.subnetFile, { force: true });
    }
    await lab!.etcd.client.delete().prefix(subnetKeys);
  });
}
