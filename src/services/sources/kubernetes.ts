import { type KubeClient, namesOnly } from '../../kubernetes/client.ts';
import { type KubeObject, KubeWatch } from '../../kubernetes/watch.ts';
import { describeError } from '../../model/error.ts';
import { likeHosts } from '../../model/spelling.ts';
import type { Log } from '../../process/log.ts';
import { parseNode } from '../plan/node-parse.ts';
import {
  foreignLabel,
  isForAnotherProxy,
  type Parsed,
  parseEndpointSlice,
  parseService,
} from '../plan/parse.ts';
import type { EndpointSlice, NodeFacts, Service } from '../plan/service.ts';
import type { ObjectKind, ServiceSink, ServiceSource } from './source.ts';

export interface KubeServicesOptions {
  readonly client: KubeClient;
  readonly nodeName: string;
  readonly log: Log;
}

/** Names are asked for, not the Nodes, which are large, and no more than this many. */
const MOST_NODES = 5000;

async function nodeNames(client: KubeClient, signal: AbortSignal): Promise<string[]> {
  const query = { limit: String(MOST_NODES) };
  const answer = await client.getJson('/api/v1/nodes', query, signal, namesOnly);
  const { items } = answer as { readonly items?: readonly KubeObject[] | null };
  return (items ?? []).flatMap(({ metadata }) => metadata?.name ?? []);
}

/** Services, EndpointSlices and facts of this node from the Kubernetes API. */
export class KubeServiceSource implements ServiceSource {
  private readonly options: KubeServicesOptions;
  private readonly ending = new AbortController();
  private watches: readonly { start(): void; stop(): Promise<void> }[] = [];

  constructor(options: KubeServicesOptions) {
    this.options = options;
  }

  get description(): string {
    return `Kubernetes API at ${this.options.client.choice}`;
  }

  async start(sink: ServiceSink): Promise<void> {
    this.watches = [
      this.watch(sink, 'service', 'Service', '/api/v1/services', parseService),
      this.watch(
        sink,
        'slice',
        'EndpointSlice',
        '/apis/discovery.k8s.io/v1/endpointslices',
        parseEndpointSlice,
      ),
      this.watchNode(sink),
    ];
    for (const watch of this.watches) watch.start();
  }

  async stop(): Promise<void> {
    this.ending.abort();
    await Promise.all(this.watches.map((watch) => watch.stop()));
  }

  private watch<T extends Service | EndpointSlice>(
    sink: ServiceSink,
    kind: ObjectKind,
    word: string,
    path: string,
    parse: (raw: unknown) => Parsed<T> | undefined,
  ): KubeWatch<T> {
    const { client, log } = this.options;
    const parseSafely = (raw: KubeObject): T | undefined => {
      const where = `${word} ${raw.metadata?.namespace}/${raw.metadata?.name}`.slice(0, 200);
      try {
        if (isForAnotherProxy(raw, kind)) return undefined;
        const parsed = parse(raw);
        for (const problem of parsed?.problems ?? []) sink.skipped(where, problem);
        return parsed?.value;
      } catch (error) {
        sink.skipped(where, describeError(error));
        return undefined;
      }
    };
    return new KubeWatch<T>({
      client,
      log,
      path,
      // What is not for us is not even sent.
      query: { labelSelector: `!${foreignLabel[kind]}` },
      parse: parseSafely,
      onList: (values) => sink.replace(kind, values),
      onChange: (key, value) => sink.change({ kind, key, value } as Parameters<ServiceSink['change']>[0]),
    });
  }

  /** Never throws: a server that does not let us list Nodes leaves us without the names. */
  private async nameLikeNodes(sink: ServiceSink): Promise<void> {
    const { client, nodeName, log } = this.options;
    let names: readonly string[] = [];
    try {
      names = await nodeNames(client, this.ending.signal);
    } catch (error) {
      log.debug({ error: describeError(error) }, 'the names of the Nodes are not known');
    }
    if (!this.ending.signal.aborted) sink.nodeUnknown(likeHosts(nodeName, names));
  }

  private watchNode(sink: ServiceSink): KubeWatch<NodeFacts> {
    const { client, log, nodeName } = this.options;
    let known: NodeFacts | undefined;
    const take = (facts: NodeFacts | undefined): void => {
      // A Node that is deleted is a node that goes.
      known = facts ?? (known && { ...known, leaving: true });
      sink.node(known);
    };
    return new KubeWatch<NodeFacts>({
      client,
      log,
      path: '/api/v1/nodes',
      query: { fieldSelector: `metadata.name=${nodeName}` },
      parse: parseNode,
      onList: ([facts]) => {
        take(facts);
        if (facts === undefined) void this.nameLikeNodes(sink);
      },
      onChange: (_key, facts) => take(facts),
    });
  }
}
