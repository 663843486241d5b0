import { Conntrack } from '../kernel/conntrack.ts';
import type { PacketCounters } from '../kernel/packet-counters.ts';
import type { Family } from '../model/address.ts';
import type { Log } from '../process/log.ts';
import type { ProxyConfig } from './config.ts';
import { ProxyFlows } from './flows.ts';
import type { ProxyMetrics } from './metrics.ts';
import type { NodeAddresses } from './node-addresses.ts';
import { nodePortAddresses } from './plan/nodeport-addresses.ts';
import type { NodeFacts } from './plan/service.ts';

/** What the families are opened with, in any mode. */
export interface FamilySetting {
  readonly config: ProxyConfig;
  readonly metrics: ProxyMetrics;
  readonly addresses: NodeAddresses;
  readonly counters: PacketCounters;
  readonly log: Log;
}

/** This node's addresses of a family that serve node ports, as they are now; undefined for all. */
export function servingAddresses(
  family: Family,
  { config, addresses }: FamilySetting,
  facts: NodeFacts | undefined,
): readonly string[] | undefined {
  return nodePortAddresses(config.nodePortAddresses, family, addresses.of(family), facts);
}

/** @param rules those that stand, as they are now: the addresses of node ports undefined for all */
export function openFlows(
  family: Family,
  { metrics, addresses, log }: FamilySetting,
  rules: {
    readonly isServed: (address: string) => boolean;
    readonly nodePortAddresses: () => readonly string[] | undefined;
  },
): ProxyFlows {
  const labels = { ip_family: family.kubeName };
  return new ProxyFlows({
    family,
    conntrack: new Conntrack(),
    isServed: rules.isServed,
    nodePortAddresses: () => new Set(rules.nodePortAddresses() ?? addresses.of(family)),
    onDeleted: (count) => metrics.staleFlows.inc(labels, count),
    onLooked: (seconds) => metrics.flowsLook.observe(labels, seconds),
    log,
  });
}
