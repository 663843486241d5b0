/** Which endpoints kube-proxy uses: a reading of pkg/proxy/topology.go and endpointslicecache.go of release 1.36. */

interface ApiEndpoint {
  readonly addresses: readonly string[];
  readonly nodeName?: string | undefined;
  readonly conditions?: {
    readonly ready?: boolean | undefined;
    readonly serving?: boolean | undefined;
    readonly terminating?: boolean | undefined;
  };
  readonly hints?: {
    readonly forZones?: readonly { name: string }[] | undefined;
    readonly forNodes?: readonly { name: string }[] | undefined;
  };
}

interface ApiSlice {
  readonly ports?: readonly { name?: string; port?: number; protocol?: string }[] | null;
  readonly endpoints?: readonly ApiEndpoint[] | null;
}

export interface Target {
  readonly ip: string;
  readonly port: number;
  /** It runs on this node. */
  readonly here: boolean;
}

/** Where traffic may go. */
export interface Usable {
  /** With policy Cluster. */
  readonly cluster: readonly Target[];
  /** With policy Local. */
  readonly local: readonly Target[];
  /** Some endpoint of the cluster serves. */
  readonly any: boolean;
}

interface Known extends Target {
  readonly ready: boolean;
  /** It ends, and serves still. */
  readonly draining: boolean;
  readonly terminating: boolean;
  readonly zones: readonly string[];
  readonly nodes: readonly string[];
}

const names = (hints: readonly { name: string }[] | undefined): string[] =>
  (hints ?? []).map(({ name }) => name);

function known(endpoint: ApiEndpoint, port: number, nodeName: string): Known {
  const { ready = true, serving = true, terminating = false } = endpoint.conditions ?? {};
  return {
    ip: endpoint.addresses[0]!,
    port,
    here: endpoint.nodeName === nodeName,
    ready,
    draining: serving && terminating && !ready,
    terminating,
    zones: names(endpoint.hints?.forZones),
    nodes: names(endpoint.hints?.forNodes),
  };
}

/**
 * Of two at one address the one that does not end. Of two of which neither does, kube-proxy takes whichever it comes to
 * last; said here is the one that is ready.
 */
function counts(one: Known, before: Known): boolean {
  return one.terminating === before.terminating ? one.ready && !before.ready : before.terminating;
}

function allOf(
  slices: readonly ApiSlice[],
  port: { readonly name?: string; readonly protocol?: string },
  nodeName: string,
): Known[] {
  const found = new Map<string, Known>();
  for (const slice of slices) {
    for (const offered of slice.ports ?? []) {
      const same =
        (offered.name ?? '') === (port.name ?? '') &&
        (offered.protocol ?? 'TCP') === (port.protocol ?? 'TCP');
      if (!same || offered.port === undefined) continue;
      for (const endpoint of slice.endpoints ?? []) {
        const one = known(endpoint, offered.port, nodeName);
        const before = found.get(`${one.ip} ${one.port}`);
        if (before === undefined || counts(one, before)) found.set(`${one.ip} ${one.port}`, one);
      }
    }
  }
  return [...found.values()];
}

/** Hints count where each ready endpoint has some, and some endpoint is meant for us. */
function meantForUs(ready: readonly Known[], node: { name: string; zone?: string }): (one: Known) => boolean {
  const byNode = (one: Known): boolean => one.nodes.includes(node.name);
  if (ready.every(({ nodes }) => nodes.length > 0) && ready.some(byNode)) return byNode;
  const byZone = (one: Known): boolean => node.zone !== undefined && one.zones.includes(node.zone);
  if (ready.every(({ zones }) => zones.length > 0) && ready.some(byZone)) return byZone;
  return () => true;
}

export function usableEndpoints(
  slices: readonly ApiSlice[],
  port: { readonly name?: string; readonly protocol?: string },
  node: { readonly name: string; readonly zone?: string },
): Usable {
  const all = allOf(slices, port, node.name);
  const ready = all.filter((one) => one.ready);
  const draining = all.filter((one) => one.draining);
  const here = ready.filter((one) => one.here);
  return {
    cluster: ready.length > 0 ? ready.filter(meantForUs(ready, node)) : draining,
    local: here.length > 0 ? here : draining.filter((one) => one.here),
    any: ready.length + draining.length > 0,
  };
}
