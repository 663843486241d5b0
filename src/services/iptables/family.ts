import { setFlagsFromString } from 'node:v8';
import { openIptables } from '../../kernel/iptables.ts';
import { openRulesStamp } from '../../kernel/rules-stamp.ts';
import { readSysctl } from '../../kernel/sysctl.ts';
import { detectVariant } from '../../kernel/used-iptables.ts';
import { type Family, ipv4, ipv6 } from '../../model/address.ts';
import { fromPodMatch } from '../config.ts';
import { type FamilySetting, openFlows, servingAddresses } from '../family.ts';
import type { ProxyFlows } from '../flows.ts';
import { ProxyLocalnet } from '../localnet.ts';
import { isLoopback, ownAddresses } from '../plan/nodeport-addresses.ts';
import type { NodeFacts } from '../plan/service.ts';
import { standingDestinations } from '../plan/stale-flows.ts';
import type { ServedFamily } from '../served-family.ts';
import { ProxyWatch } from '../watch.ts';
import { optionalMatches } from './optional-matches.ts';
import type { OptionalMatch, RenderOptions } from './plan/options.ts';
import { ProxyRules, sha256 } from './rules.ts';

/** One family's part of the kernel. */
interface Place {
  readonly family: Family;
  readonly localnet: ProxyLocalnet | undefined;
  readonly matches: readonly OptionalMatch[];
}

function renderOptions(
  setting: FamilySetting,
  { family, localnet, matches }: Place,
  facts: NodeFacts | undefined,
): RenderOptions {
  const { config, addresses } = setting;
  const onLoopback = localnet?.wanted === true;
  const serving = servingAddresses(family, setting, facts);
  return {
    v6: family === ipv6,
    fromPod: fromPodMatch(config.localDetection, family, facts),
    masqueradeAll: config.masqueradeAll,
    localhostNodePorts: onLoopback,
    opensLocalnet: localnet?.opens === true,
    nodePortAddresses: onLoopback ? serving : serving?.filter((text) => !isLoopback(text)),
    tolerateInvalid: (readSysctl('net/netfilter/nf_conntrack_tcp_be_liberal') ?? '0') !== '0',
    nodeAddresses: ownAddresses(family, addresses.of(family), facts),
    matches,
    sha256,
  };
}

/** One family served with iptables. @throws TwillError naming what of the kernel or of the program is missing */
export async function openIptablesFamily(family: Family, setting: FamilySetting): Promise<ServedFamily> {
  const { config, metrics, counters, log } = setting;
  // The first rules of thousands of Services are the longest work it does, and over before code that V8 optimises
  // meanwhile, on the processor that iptables-restore needs, is of use. (In mode nftables nobody else needs it, and a
  // start takes a third less with it.)
  setFlagsFromString('--no-opt');
  const { variant, why } = await detectVariant(family);
  const iptables = openIptables(family, variant);
  // A kernel without NAT for this family says so here, not at every sync.
  await iptables.list('nat', 'POSTROUTING');
  const matches = await optionalMatches(iptables, counters);
  if (matches.includes('nfacct')) metrics.countPackets((name) => counters.read(name));
  log.info({ family: family.name, variant, why, matches }, 'iptables');
  const localnet =
    family === ipv4 ? await ProxyLocalnet.open(iptables, config.localhostNodePorts, log) : undefined;
  const place = { family, localnet, matches };
  let render = renderOptions(setting, place, undefined);
  const flows: ProxyFlows = openFlows(family, setting, {
    isServed: (address) => rules.isServed(address),
    nodePortAddresses: () => render.nodePortAddresses,
  });
  const rules: ProxyRules = new ProxyRules({
    family,
    iptables,
    render,
    node: { name: config.nodeName },
    onEntries: (service, entries) => flows.table.setService(service, entries),
    onStanding: (chains) => flows.table.recall(standingDestinations(chains)),
    log,
  });
  const stamp = openRulesStamp(family, variant);
  return {
    rules,
    flows,
    iptables: rules,
    localnet,
    openWatch: (hooks) => new ProxyWatch({ ...hooks, stamp, looksWhole: () => rules.looksWhole() }),
    configure: (facts) => {
      render = renderOptions(setting, place, facts);
      return rules.configure(render);
    },
    nodePortAddresses: (facts) => servingAddresses(family, setting, facts),
  };
}
