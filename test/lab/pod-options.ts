import assert from 'node:assert/strict';
import { fails } from './cni-conformance.ts';
import type { AddedContainer, CniNode } from './cni-node.ts';

export const latest = { cniVersion: '1.1.0' };

/** An attachment of a container of its own. */
export async function added(
  node: CniNode,
  config: object,
  environment: NodeJS.ProcessEnv = {},
): Promise<AddedContainer> {
  return await node.added({ config, environment }, latest);
}

/** ADD with this configuration fails as the specification has it for one that cannot be carried out, and makes nothing. */
export async function refused(node: CniNode, config: object, message: RegExp): Promise<void> {
  const container = await node.container(latest);
  fails(await container.call('ADD', { config }), 7, message);
  assert.equal((await container.pod.run('ip', ['link', 'show', 'eth0'])).status, 1);
}
