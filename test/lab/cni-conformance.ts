// What the conformance tests of all commands share. They speak the newest version of the specification.
import assert from 'node:assert/strict';
import {
  type AddedContainer,
  type CniContainer,
  type CniNode,
  type CniOptions,
  type CniOutcome,
  sharedCniNode,
} from './cni-node.ts';
import type { Namespace } from './namespace.ts';

export const latest = { cniVersion: '1.1.0' };

interface Conformance {
  readonly node: CniNode;
  /** A container of its own for a test. */
  subject(): Promise<CniContainer>;
  /** One that has its interface. */
  added(options?: CniOptions): Promise<AddedContainer>;
}

/** One node for all tests of the file that calls this. */
export function conformanceNode(): Conformance {
  const shared = sharedCniNode();
  return {
    get node() {
      return shared.node;
    },
    subject: () => shared.node.container(latest),
    added: (options) => shared.node.added(options, latest),
  };
}

export async function has(pod: Namespace, ifname: string): Promise<boolean> {
  return (await pod.run('ip', ['link', 'show', ifname])).status === 0;
}

export function fails(outcome: CniOutcome, code: number, message: RegExp): void {
  assert.equal(outcome.status, 1, 'a failure has an exit status other than 0');
  assert.equal(outcome.json.code, code, outcome.stdout);
  assert.match(outcome.json.msg, message);
  assert.ok(outcome.json.cniVersion, 'an error has the version');
}
