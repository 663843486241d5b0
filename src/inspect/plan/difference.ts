/** Kinds of what is kept in the kernel and in files, in the order in which a person looks for the reason. */
export const kinds = [
  'underlay',
  'device',
  'route',
  'nexthop',
  'neighbour',
  'fdb',
  'sysctl',
  'rules',
  'VXLAN peers',
  'pod',
  'host ports',
  'service rules',
  'subnet file',
] as const;

export type Kind = (typeof kinds)[number];

/** One thing that is not as it should be. */
export interface Difference {
  readonly kind: Kind;
  /** What it is, as people call it: a prefix, a device, a chain. */
  readonly object: string;
  readonly state: 'missing' | 'wrong' | 'foreign';
  /** What should be and what is. */
  readonly detail: string;
  /** The standard command that shows it. */
  readonly show: string;
}

/** Where what is to be put right is kept. */
export const ownerOf = (kind: Kind): 'agent' | 'proxy' => (kind === 'service rules' ? 'proxy' : 'agent');

/** How many there are of each kind that has some. */
export function countByKind(differences: readonly Difference[]): [Kind, number][] {
  return kinds.flatMap((kind): [Kind, number][] => {
    const count = differences.filter((one) => one.kind === kind).length;
    return count === 0 ? [] : [[kind, count]];
  });
}

/** In the order of the kinds; within one as they were found. */
export function sortDifferences(differences: readonly Difference[]): Difference[] {
  return [...differences].sort((a, b) => kinds.indexOf(a.kind) - kinds.indexOf(b.kind));
}
