import { type Stats, statSync } from 'node:fs';
import { TwillError } from '../../model/error.ts';

function statOf(path: string): Stats | undefined {
  return statSync(path, { throwIfNoEntry: false });
}

/**
 * Looks whether a path is a pod's network namespace.
 * @throws TwillError `not-found` when it does not exist, `invalid` when it is no namespace or the node's own
 */
export function assertPodNamespace(path: string): void {
  const given = statOf(path);
  const own = statSync('/proc/self/ns/net');
  if (given === undefined)
    throw new TwillError('not-found', `CNI_NETNS: the network namespace '${path}' does not exist`);
  if (given.dev !== own.dev)
    throw new TwillError('invalid', `CNI_NETNS: '${path}' is not a network namespace`);
  if (given.ino === own.ino)
    throw new TwillError('invalid', `CNI_NETNS: '${path}' is the node's own network namespace`);
}

/** False when the path is gone, or is what is left of an unmounted namespace: a plain file. */
export function namespaceExists(path: string): boolean {
  const given = statOf(path);
  return given !== undefined && given.dev === statSync('/proc/self/ns/net').dev;
}
