/**
 * The one table that is ours in each family, and what is in it. A Service port is a number, the same in all maps, so that
 * addresses and node ports lead to one list of endpoints: see {@link layouts}.
 */

export const tableName = 'twill-services';

/** The chain in which packets of pods enter. */
export const entranceChain = 'nat-prerouting';

/** kube-proxy's mark, which others look at, too. */
export const masqueradeMark = '0x00004000';

/** What a part of a key or value is. Each takes a multiple of four bytes in the kernel. */
export type Field = 'address' | 'protocol' | 'port' | 'id' | 'index';

export interface Layout {
  readonly key: readonly Field[];
  /** Of a map: what is found under a key. */
  readonly data?: readonly Field[];
  /** The last part of a key is a range. */
  readonly interval?: true;
  /** Whose ports these are. */
  readonly protocol?: string;
}

/**
 * Sets and maps whose elements follow the Services; a change of a Service changes nothing but these. None has verdicts:
 * the kernel walks through all of those whenever one is added.
 *
 * An `id` has the number of a Service port in its upper 20 bits; below them is its shape (how an endpoint is chosen, see
 * {@link shapeBits}), or with session affinity the number of an endpoint. Between two lookups it is in the packet's
 * priority, which is set back afterwards: only the first packet of a connection comes here.
 */
export const layouts = {
  /** Where packets are sent to, and the Service port that serves it. */
  services: { key: ['address', 'protocol', 'port'], data: ['id'] },
  'node-ports': { key: ['protocol', 'port'], data: ['id'] },
  /**
   * Endpoints by Service port and number; those for policy Local are counted from {@link localIndex}. One map for each
   * protocol: nft 1.0.6 gives the type of such a map by an example, and a port in an example is that of a protocol.
   */
  'endpoints-tcp': { key: ['id', 'index'], data: ['address', 'port'], protocol: 'tcp' },
  'endpoints-udp': { key: ['id', 'index'], data: ['address', 'port'], protocol: 'udp' },
  'endpoints-sctp': { key: ['id', 'index'], data: ['address', 'port'], protocol: 'sctp' },
  /** With session affinity: the endpoint's lasting number, by its number among those that are chosen from. */
  slots: { key: ['id', 'index'], data: ['id'] },
  sticky: { key: ['id'], data: ['address', 'port'] },
  'sticky-local': { key: ['id'], data: ['address', 'port'] },
  /** Ports that nobody serves, on any node and on this one. */
  'no-endpoints': { key: ['address', 'protocol', 'port'] },
  'no-local-endpoints': { key: ['address', 'protocol', 'port'] },
  'node-no-endpoints': { key: ['protocol', 'port'] },
  'node-no-local-endpoints': { key: ['protocol', 'port'] },
  /** Load balancers' addresses that only some may use, and who. */
  firewalled: { key: ['address', 'protocol', 'port'] },
  sources: { key: ['address', 'protocol', 'port', 'address'], interval: true },
  /** Endpoints of this node that may reach themselves. */
  hairpin: { key: ['address', 'address'] },
  'cluster-ips': { key: ['address'] },
  'node-addresses': { key: ['address'] },
} as const satisfies Record<string, Layout>;

export type SetName = keyof typeof layouts;

export const setNames = Object.keys(layouts) as SetName[];

/** What leads into the table: written last at a start, and removed first. */
export const entrances = new Set<SetName>(['services', 'node-ports']);

/** Remembers which client has which endpoint; filled by packets. */
export const affinityMap = 'affinity';
/** The few verdicts: a shape's number to its chain. */
export const shapesMap = 'shapes';
/** What was written into each chain, for a later run: see {@link ../standing-rules.ts}. */
export const stampSet = 'stamps';

export const counters = ['no-endpoints', 'no-local-endpoints', 'source-ranges', 'unserved-ports'] as const;

export const shapeBits = 12;
export const mostShapes = (1 << shapeBits) - 1;
/** Endpoints of one Service port with session affinity. */
export const mostSlots = (1 << shapeBits) - 1;
export const mostPorts = (1 << 20) - 1;
export const localIndex = 0x1_0000;
