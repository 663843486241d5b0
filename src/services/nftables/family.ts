import { openNftTable } from '../../kernel/nft-table.ts';
import { type Family, ipv6 } from '../../model/address.ts';
import { TwillError } from '../../model/error.ts';
import { podSource } from '../config.ts';
import { type FamilySetting, openFlows, servingAddresses } from '../family.ts';
import type { ProxyFlows } from '../flows.ts';
import { isLoopback, ownAddresses } from '../plan/nodeport-addresses.ts';
import type { NodeFacts } from '../plan/service.ts';
import type { ServedFamily } from '../served-family.ts';
import { tableName } from './plan/names.ts';
import type { RenderOptions } from './plan/options.ts';
import { standingDestinations } from './plan/standing-destinations.ts';
import { nftablesLacks } from './probe.ts';
import { NftRules } from './rules.ts';
import { NftWatch } from './watch.ts';

function renderOptions(setting: FamilySetting, family: Family, facts: NodeFacts | undefined): RenderOptions {
  const { config, addresses } = setting;
  const serving = servingAddresses(family, setting, facts);
  return {
    v6: family === ipv6,
    fromPod: podSource(config.localDetection, family, facts),
    masqueradeAll: config.masqueradeAll,
    nodePortAddresses: serving?.filter((text) => !isLoopback(text)),
    nodeAddresses: ownAddresses(family, addresses.of(family), facts),
  };
}

/** One family served with nftables. @throws TwillError naming what of the kernel or of the program is missing */
export async function openNftFamily(family: Family, setting: FamilySetting): Promise<ServedFamily> {
  const { config, log } = setting;
  // Where the mode was chosen on this node it has been tried.
  const lacks = config.wantedMode === 'auto' ? [] : await nftablesLacks(family);
  if (lacks.length > 0)
    throw new TwillError('invalid', `mode nftables cannot serve ${family.name} here: ${lacks.join('; ')}`);
  const table = openNftTable(family, tableName);
  let render = renderOptions(setting, family, undefined);
  const flows: ProxyFlows = openFlows(family, setting, {
    isServed: (address) => rules.isServed(address),
    nodePortAddresses: () => render.nodePortAddresses,
  });
  const rules: NftRules = new NftRules({
    table,
    render,
    node: { name: config.nodeName },
    onEntries: (service, entries) => flows.table.setService(service, entries),
    onStanding: ({ elements }) => flows.table.recall(standingDestinations(elements, render.v6)),
    log,
  });
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
    nodePortAddresses: (facts) => servingAddresses(family, setting, facts),
  };
}
