import { Conntrack } from '../../kernel/conntrack.ts';
import { openNftTable } from '../../kernel/nft-table.ts';
import { type Family, ipv6 } from '../../model/address.ts';
import type { Log } from '../../process/log.ts';
import { type ProxyConfig, podSource } from '../config.ts';
import { ProxyFlows } from '../flows.ts';
import type { ProxyMetrics } from '../metrics.ts';
import type { NodeAddresses } from '../node-addresses.ts';
import { isLoopback, nodePortAddresses, ownAddresses } from '../plan/nodeport-addresses.ts';
import type { NodeFacts } from '../plan/service.ts';
import type { ServedFamily } from '../service-proxy.ts';
import { tableName } from './plan/names.ts';
import type { RenderOptions } from './plan/options.ts';
import { standingDestinations } from './plan/standing-destinations.ts';
import { NftRules } from './rules.ts';
import { NftWatch } from './watch.ts';

interface Setting {
  readonly config: ProxyConfig;
  readonly metrics: ProxyMetrics;
  readonly addresses: NodeAddresses;
  readonly log: Log;
}

function renderOptions(
  { config, addresses }: Setting,
  family: Family,
  facts: NodeFacts | undefined,
): RenderOptions {
  const own = addresses.of(family);
  const serving = nodePortAddresses(config.nodePortAddresses, family, own, facts);
  return {
    v6: family === ipv6,
    fromPod: podSource(config.localDetection, family, facts),
    masqueradeAll: config.masqueradeAll,
    nodePortAddresses: serving?.filter((text) => !isLoopback(text)),
    nodeAddresses: ownAddresses(family, own, facts),
  };
}

/** One family served with nftables. @throws TwillError naming what of the kernel or of the program is missing */
export async function openNftFamily(family: Family, setting: Setting): Promise<ServedFamily> {
  const { config, metrics, addresses, log } = setting;
  const table = openNftTable(family, tableName);
  let render = renderOptions(setting, family, undefined);
  const flows: ProxyFlows = new ProxyFlows({
    family,
    conntrack: new Conntrack(),
    isServed: (address) => rules.isServed(address),
    nodePortAddresses: () => new Set(render.nodePortAddresses ?? addresses.of(family)),
    onDeleted: (count) => metrics.staleFlows.inc({ ip_family: family.kubeName }, count),
    onLooked: (seconds) => metrics.flowsLook.observe({ ip_family: family.kubeName }, seconds),
    log,
  });
  const rules: NftRules = new NftRules({
    table,
    render,
    node: { name: config.nodeName },
    onEntries: (service, entries) => flows.table.setService(service, entries),
    onStanding: ({ elements }) => flows.table.recall(standingDestinations(elements, render.v6)),
    log,
  });
  await rules.probe();
  return {
    rules,
    flows,
    iptables: undefined,
    nftables: rules,
    localnet: undefined,
    openWatch: (hooks) => new NftWatch(table, () => rules.looksWhole(), hooks),
    configure: (facts) => {
      render = renderOptions(setting, family, facts);
      return rules.configure(render);
    },
    nodePortAddresses: (facts) =>
      nodePortAddresses(config.nodePortAddresses, family, addresses.of(family), facts),
  };
}
