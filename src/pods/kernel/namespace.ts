import { statSync } from 'node:fs';
import { closeNetns, type Netns, openNetns, ownNetnsId } from '../../kernel/netns.ts';
import { isTwillError, TwillError } from '../../model/error.ts';

/**
 * Opens a pod's network namespace. All that is done to the pod is done through this one descriptor: the path may lead to
 * another namespace a moment later, to the node's own at worst. To be closed by `closeNetns`.
 * @throws TwillError `not-found` when it does not exist, `invalid` when it is no namespace or the node's own
 */
export function openPodNamespace(path: string): Netns {
  let netns: Netns;
  try {
    netns = openNetns(path);
  } catch (error) {
    if (isTwillError(error, 'not-found'))
      throw new TwillError('not-found', `CNI_NETNS: the network namespace '${path}' does not exist`, error);
    if (isTwillError(error, 'invalid'))
      throw new TwillError('invalid', `CNI_NETNS: '${path}' is not a network namespace`);
    throw error;
  }
  if (netns.id !== ownNetnsId()) return netns;
  closeNetns(netns);
  throw new TwillError('invalid', `CNI_NETNS: '${path}' is the node's own network namespace`);
}

/** The {@link Netns.id} of what a path leads to; undefined when that is no namespace. */
export function namespaceIdAt(path: string): string | undefined {
  const given = statSync(path, { throwIfNoEntry: false });
  if (given === undefined || given.dev !== statSync('/proc/self/ns/net').dev) return undefined;
  return `${given.dev}:${given.ino}`;
}

/**
 * False when the path is gone, is what is left of an unmounted namespace (a plain file), or leads to another namespace
 * by now (a process number that was used again).
 * @param id the namespace's, where it is known
 */
export function namespaceExists(path: string, id: string | undefined): boolean {
  const found = namespaceIdAt(path);
  return found !== undefined && (id === undefined || id === found);
}
