/**
 * How an endpoint is chosen: what many Services have in common. nft wants a number behind `numgen random mod`, so there is
 * a chain for each number of endpoints, not for each Service.
 */

/** Which list of endpoints. */
export type Region = 'cluster' | 'local';

export interface Pick {
  /** As nft writes it. */
  readonly protocol: 'tcp' | 'udp' | 'sctp';
  readonly region: Region;
  /** At least 1. */
  readonly count: number;
  /** Seconds of session affinity, 0 for none. */
  readonly sticky: number;
}

export type Shape =
  /** A cluster address: masqueraded where it does not come from a pod. */
  | { readonly kind: 'cluster'; readonly pick: Pick }
  /** From outside, policy Cluster: always masqueraded. */
  | { readonly kind: 'external'; readonly pick: Pick }
  /** From outside, policy Local: only endpoints of this node, but for pods and the node itself. */
  // At least one of the two there is.
  | { readonly kind: 'local'; readonly here: Pick | undefined; readonly anywhere: Pick | undefined };

function suffix({ sticky }: Pick): string {
  return sticky > 0 ? `-${sticky}s` : '';
}

/** For example `pick-tcp-5`, `pick-udp-local-2`, `pick-tcp-5-10800s`. */
export function pickName(pick: Pick): string {
  return `pick-${pick.protocol}-${pick.region === 'local' ? 'local-' : ''}${pick.count}${suffix(pick)}`;
}

/** For example `cluster-tcp-5`, `external-tcp-5-10800s`, `local-tcp-2-of-5`. */
export function shapeName(shape: Shape): string {
  if (shape.kind === 'local') {
    const any = shape.here ?? shape.anywhere!;
    const counts = `${shape.here?.count ?? 0}-of-${shape.anywhere?.count ?? 0}`;
    return `local-${any.protocol}-${counts}${suffix(any)}`;
  }
  return `${shape.kind}-${pickName(shape.pick).slice('pick-'.length)}`;
}

/** Whether a chain of ours is a shape's, by its name. */
export function isShape(chain: string): boolean {
  return /^(cluster|external|local)-/.test(chain);
}

export function picksOf(shape: Shape): Pick[] {
  if (shape.kind !== 'local') return [shape.pick];
  return [shape.here, shape.anywhere].filter((pick) => pick !== undefined);
}
