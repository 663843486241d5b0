import type { EndpointSlice, NodeFacts, Service } from '../plan/service.ts';
import type { ObjectChange } from '../plan/tracker.ts';

export type ObjectKind = ObjectChange['kind'];

/** Where a source of Services and EndpointSlices reports to. */
export interface ServiceSink {
  /** These are all objects of the kind: the first call says the source has its first full list. */
  replace(kind: ObjectKind, values: readonly (Service | EndpointSlice)[]): void;
  change(change: ObjectChange): void;
  /** What is known of this node; undefined when it is not among the nodes. */
  node(facts: NodeFacts | undefined): void;
  /** This node's name is none of a Node. @param like names of Nodes that are like it */
  nodeUnknown(like: readonly string[]): void;
  /** An object, or part of one, that was left out. @param where file or object name */
  skipped(where: string, problem: string): void;
}

export interface ServiceSource {
  /** One line for logs and status: what is watched. */
  readonly description: string;
  /** Begins to report; keeps trying when what it watches does not answer. */
  start(sink: ServiceSink): Promise<void>;
  stop(): Promise<void>;
}
