import { KubeClient } from '../../kubernetes/client.ts';
import type { KubeConfigOptions } from '../../kubernetes/config.ts';
import { describeError, isTwillError, TwillError } from '../../model/error.ts';
import { hindered, type Removal } from '../../model/removal.ts';
import { list, object } from '../../model/untrusted.ts';
import { type AnnotationNames, annotationNames, publishedNames } from '../plan/node-annotations.ts';
import { findNodeName, networkUp } from './records.ts';

/** For all requests together: without an API server the rest of the node is to be cleaned, too. */
const PATIENCE_MS = 30_000;

export interface NodeMarkOptions {
  readonly client: KubeConfigOptions;
  readonly annotationPrefix: string;
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** What is of ours, or of the flannel that we took the node over from, in a Node. */
function marksOf(node: unknown, names: AnnotationNames): { annotations: string[]; condition: boolean } {
  const { metadata, status } = object(node);
  const standing = object(object(metadata).annotations);
  const conditions = list(object(status).conditions).map(object);
  return {
    annotations: publishedNames(names).filter((name) => Object.hasOwn(standing, name)),
    condition: conditions.some(
      ({ type, reason, message }) =>
        type === networkUp.type && reason === networkUp.reason && message === networkUp.message,
    ),
  };
}

/** A strategic merge patch that takes them away. */
function patchOf({ annotations, condition }: ReturnType<typeof marksOf>): object {
  const conditions = [{ type: networkUp.type, $patch: 'delete' }];
  return {
    metadata: { annotations: Object.fromEntries(annotations.map((name) => [name, null])) },
    ...(condition ? { status: { conditions } } : {}),
  };
}

function byHand(node: string, names: AnnotationNames): string {
  const gone = publishedNames(names).map((name) => `${name}-`);
  return `by hand it is kubectl annotate node ${node} ${gone.join(' ')}`;
}

async function readNode(client: KubeClient, name: string, signal: AbortSignal): Promise<unknown> {
  // An agent's account may list Nodes, and not get one.
  const query = { fieldSelector: `metadata.name=${name}` };
  const { items } = object(await client.getJson('/api/v1/nodes', query, signal));
  return list(items)[0];
}

/**
 * The lease of this node in Kubernetes: other nodes take their routes to it away when its annotations are gone. What an
 * administrator sets stays. An account that may not read Nodes cannot have published a lease: that is said, and no failure.
 */
export async function findNodeMarks({
  client: options,
  annotationPrefix,
  env,
}: NodeMarkOptions): Promise<Removal[]> {
  const names = annotationNames(annotationPrefix);
  const signal = AbortSignal.timeout(PATIENCE_MS);
  const client = await KubeClient.open(options);
  const node = await findNodeName(client, env, signal);
  const what = `Node ${node}: its lease taken away`;
  try {
    const marks = marksOf(await readNode(client, node, signal), names);
    const found = [...marks.annotations, ...(marks.condition ? [`condition ${networkUp.type}`] : [])];
    if (found.length === 0) return [];
    const apply = async (): Promise<void> =>
      void (await client.patchJson(`/api/v1/nodes/${node}/status`, patchOf(marks), signal));
    return [{ what: `${what}: ${found.join(', ')}`, flannels: `Node ${node}: its lease`, apply }];
  } catch (error) {
    const detail = `${describeError(error)}; ${byHand(node, names)}`;
    if (isTwillError(error, 'permission'))
      return [{ what: `Node ${node}: left as it is, for it cannot be read: ${detail}`, apply: () => {} }];
    return [hindered(what, new TwillError('unavailable', detail, error))];
  }
}
