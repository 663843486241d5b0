import { hostname } from 'node:os';
import type { KubeClient } from '../../kubernetes/client.ts';
import { KubeWatch } from '../../kubernetes/watch.ts';
import type { Address, Prefix } from '../../model/address.ts';
import { describeError, TwillError } from '../../model/error.ts';
import { isoTime } from '../../process/clock.ts';
import type { Log } from '../../process/log.ts';
import type { Lease } from '../plan/lease.ts';
import {
  type AnnotationNames,
  annotationProblems,
  internalIps,
  nodeLease,
  nodePublicIps,
  podSubnets,
  type RawNode,
} from '../plan/node-annotations.ts';

/** The condition that says that this node's network is up. */
export const networkUp = {
  type: 'NetworkUnavailable',
  status: 'False',
  reason: 'FlannelIsUp',
  message: 'Twill is running on this node',
} as const;

/** What is kept of a node: little of another, enough of our own to write it. */
export interface NodeRecord {
  readonly name: string;
  /** Undefined while the node carries no lease, or none that can be read. */
  readonly lease: Lease | undefined;
  /** Why its lease cannot be read. */
  readonly problem: string | undefined;
  /** Only of our own node. */
  readonly own: OwnNode | undefined;
}

export interface OwnNode {
  readonly raw: RawNode;
  readonly subnets: readonly Prefix[];
  readonly internalIps: readonly Address[];
  /** What an administrator set in place of --public-ip. */
  readonly publicIps: readonly Address[];
  /** What its annotations ask for and cannot have. */
  readonly problems: readonly string[];
  /** Status of the NetworkUnavailable condition; undefined when there is none. */
  readonly networkUnavailable: string | undefined;
}

export interface KubeLeasesOptions {
  readonly client: KubeClient;
  readonly log: Log;
  readonly nodeName: string;
  readonly names: AnnotationNames;
  /** Only our own node is of interest (backend alloc). */
  readonly ownOnly: boolean;
  readonly onList: (records: NodeRecord[]) => void;
  readonly onChange: (name: string, record: NodeRecord | undefined) => void;
  /** Why the nodes cannot be followed now; undefined when they are. */
  readonly onState: (error: string | undefined) => void;
}

/** The node's name: NODE_NAME, else that of the pod we run in, else the host's. */
export async function findNodeName(
  client: KubeClient,
  env: Readonly<Record<string, string | undefined>>,
  signal: AbortSignal,
): Promise<string> {
  if (env.NODE_NAME) return env.NODE_NAME;
  const { POD_NAME: pod, POD_NAMESPACE: namespace } = env;
  if (!pod || !namespace) return hostname().toLowerCase();
  const answer = (await client.getJson(`/api/v1/namespaces/${namespace}/pods/${pod}`, {}, signal)) as {
    spec?: { nodeName?: string };
  };
  const name = answer.spec?.nodeName;
  if (!name) throw new TwillError('unavailable', `pod ${namespace}/${pod} is on no node yet`);
  return name;
}

/** None as long as there are none that can be read. */
function ownSubnets(raw: RawNode): { subnets: Prefix[]; problems: string[] } {
  try {
    return { subnets: podSubnets(raw), problems: [] };
  } catch (error) {
    const advice = 'it is passed over; a node that is deleted and registers anew gets another';
    return {
      subnets: [],
      problems: [`the node's podCIDR cannot be used (${describeError(error)}): ${advice}`],
    };
  }
}

function own(raw: RawNode, names: AnnotationNames): OwnNode {
  const { subnets, problems } = ownSubnets(raw);
  return {
    raw: { metadata: raw.metadata ?? {} },
    subnets,
    internalIps: internalIps(raw),
    publicIps: nodePublicIps(raw, names),
    problems: [...problems, ...annotationProblems(raw, names)],
    networkUnavailable: raw.status?.conditions?.find(({ type }) => type === 'NetworkUnavailable')?.status,
  };
}

function toRecord(raw: RawNode, { nodeName, names }: KubeLeasesOptions): NodeRecord {
  const name = raw.metadata?.name ?? '';
  // Ours is there to be put right, too, when what it says of us cannot be read.
  const ours = name === nodeName ? own(raw, names) : undefined;
  try {
    return { name, lease: nodeLease(raw, names), problem: undefined, own: ours };
  } catch (error) {
    return { name, lease: undefined, problem: describeError(error), own: ours };
  }
}

/** Leases as annotations of the Kubernetes nodes, in flannel's schema. */
export class KubeLeases {
  private readonly options: KubeLeasesOptions;
  private readonly watch: KubeWatch<NodeRecord>;

  constructor(options: KubeLeasesOptions) {
    this.options = options;
    const { client, log, nodeName, ownOnly, onList, onChange, onState } = options;
    this.watch = new KubeWatch<NodeRecord>({
      client,
      log,
      path: '/api/v1/nodes',
      query: ownOnly ? { fieldSelector: `metadata.name=${nodeName}` } : {},
      parse: (raw) => toRecord(raw as RawNode, options),
      onList,
      // A node has no namespace: its key is `/NAME`.
      onChange: (key, record) => onChange(key.slice(1), record),
      onState,
    });
  }

  /** Only our own node is followed. */
  get ownOnly(): boolean {
    return this.options.ownOnly;
  }

  start(): void {
    this.watch.start();
  }

  /** Watches over a new connection from now on. */
  reconnect(): void {
    this.watch.reconnect();
  }

  stop(): Promise<void> {
    return this.watch.stop();
  }

  /** Writes annotations of our own node. */
  async annotate(annotations: Readonly<Record<string, string>>, signal: AbortSignal): Promise<void> {
    await this.patch({ metadata: { annotations } }, signal);
  }

  /** Says that the node's network is up, as cloud providers' schedulers wait for. */
  async clearNetworkUnavailable(signal: AbortSignal): Promise<void> {
    const now = isoTime().replace(/\.\d+Z$/, 'Z');
    const condition = { ...networkUp, lastTransitionTime: now, lastHeartbeatTime: now };
    await this.patch({ status: { conditions: [condition] } }, signal);
  }

  private patch(body: object, signal: AbortSignal): Promise<unknown> {
    const { client, nodeName } = this.options;
    return client.patchJson(`/api/v1/nodes/${nodeName}/status`, body, signal);
  }
}
