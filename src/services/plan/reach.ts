import { isExternal, type ServicePortEntry } from './table.ts';

/**
 * Addresses of endpoints that may reach themselves through this node: those that are here, or of which nothing says that
 * they are elsewhere; with policy Local all, since pods of other nodes come with their own addresses.
 */
export function hairpinAddresses(entry: ServicePortEntry): ReadonlySet<string> {
  const comeHere = entry.externalLocal && isExternal(entry);
  const all = [...entry.clusterBackends, ...entry.localBackends].filter(
    ({ local, placeless }) => local || placeless === true || comeHere,
  );
  return new Set(all.map(({ address }) => address));
}

/** Endpoints for connections to the cluster address. */
export function servesCluster(entry: ServicePortEntry): boolean {
  return (entry.internalLocal ? entry.localBackends : entry.clusterBackends).length > 0;
}

/** Endpoints for connections from outside. */
export function servesExternal(entry: ServicePortEntry): boolean {
  return (entry.externalLocal ? entry.localBackends : entry.clusterBackends).length > 0;
}
