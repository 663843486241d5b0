import { countedRules, type IptablesVariant } from '../kernel/iptables.ts';
import { type Family, families } from '../model/address.ts';
import { TwillError } from '../model/error.ts';
import { renderServicePort } from '../services/iptables/plan/service-rules.ts';
import { sha256 } from '../services/iptables/rules.ts';
import { type ServiceRow, serviceRow } from '../services/plan/row.ts';
import { type NodeView, serviceEntries } from '../services/plan/table.ts';
import type { ServiceState } from '../services/plan/tracker.ts';
import { ask } from './client.ts';
import { type Look, looking } from './look.ts';
import { nftServiceRules } from './nft-service-rules.ts';
import { type Answer, type InspectFlags, show } from './output.ts';
import { decodeState } from './plan/codec.ts';
import { type ServiceRule, type WantedChain, wantedChains } from './plan/service-lines.ts';
import type { ServiceAnswer, ServicesAnswer, ShownEndpoint } from './plan/services.ts';
import type { ProxyState } from './plan/state.ts';
import { loadServices } from './services-source.ts';
import { servicesTable, serviceTable } from './services-table.ts';
import type { Known } from './states.ts';

async function known(look: Look): Promise<Known<ProxyState> & { state: ProxyState }> {
  const proxy = await look.proxy();
  const { state } = proxy;
  if (state === undefined)
    throw new TwillError(
      'unavailable',
      `${proxy.why}, and has written nothing down: no proxy of Twill runs on this node`,
    );
  return { ...proxy, state };
}

export async function lookAtServices(look: Look): Promise<ServicesAnswer> {
  const { why } = await known(look);
  const services = [...(await look.services())].sort((a, b) => (a.name < b.name ? -1 : 1));
  return { version: 1, proxyAway: why, services };
}

interface Found {
  readonly service: ServiceState;
  readonly view: NodeView;
}

async function findService(
  { state, live }: Known<ProxyState> & { state: ProxyState },
  socketPath: string,
  name: string,
): Promise<Found> {
  if (!live) {
    const { tracker, view } = await loadServices(state);
    return { service: tracker.state(name), view };
  }
  const text = await ask('proxy', socketPath, { inspect: 'service', name });
  const { state: service } = decodeState(text) as { state?: ServiceState };
  return {
    service: service ?? { service: undefined, slices: [] },
    view: { name: state.node, zone: state.zone },
  };
}

function endpoints({ service: { slices }, view }: Found): ShownEndpoint[] {
  return slices.flatMap(({ ports, endpoints: all }) =>
    all.map(({ address, ready, serving, terminating, nodeName }) => ({
      address,
      ports: ports.map(({ name, port, protocol }) => ({ name, port, protocol })),
      node: nodeName,
      local: nodeName === view.name,
      ready,
      serving,
      terminating,
    })),
  );
}

/** For more chains of a table than these, all of it is read at once: a Service of many ports has thousands. */
const MOST_CHAINS = 20;

/** Of what stands in these chains, the Service's rules; those of each table in the order of its chains. */
async function standingRules(
  family: Family,
  variant: IptablesVariant,
  wanted: readonly WantedChain[],
): Promise<ServiceRule[]> {
  const read = async (table: 'nat' | 'filter'): Promise<[chain: string, rules: ServiceRule[]][]> => {
    const ofTable = wanted.filter((one) => one.table === table);
    const found = new Map(ofTable.map(({ chain }): [string, ServiceRule[]] => [`${table} ${chain}`, []]));
    const isOurs = new Map(ofTable.map((one) => [one.chain, one.isOurs]));
    const chains = ofTable.length > MOST_CHAINS ? [undefined] : [...isOurs.keys()];
    const rules = await Promise.all(chains.map((chain) => countedRules(family, variant, table, chain)));
    for (const { rule, packets } of rules.flatMap((some) => some ?? [])) {
      const [, chain = ''] = rule.split(' ', 2);
      if (isOurs.get(chain)?.(rule) !== true) continue;
      const text = rule.slice(`-A ${chain} `.length);
      found.get(`${table} ${chain}`)!.push({ family: family.name, table, chain, rule: text, packets });
    }
    return [...found];
  };
  const found = new Map((await Promise.all([read('nat'), read('filter')])).flat());
  return wanted.flatMap(({ table, chain }) => found.get(`${table} ${chain}`)!);
}

/** The rules that implement the Service in table nat and filter, as they stand. */
async function iptablesRules(proxy: ProxyState, { service, view }: Found): Promise<ServiceRule[]> {
  const found: ServiceRule[] = [];
  for (const { family: name, variant, render } of proxy.families) {
    const family = families.find((one) => one.name === name)!;
    const entries = serviceEntries(service, family, view);
    const fragments = entries.map((entry) => renderServicePort(entry, { ...render, sha256 }));
    found.push(...(await standingRules(family, variant as IptablesVariant, wantedChains(fragments))));
  }
  return found;
}

type RuleLister = (proxy: ProxyState, found: Found) => Promise<ServiceRule[]>;

/** How the rules of a Service are read in each mode of the proxy. */
const listers: Readonly<Record<string, RuleLister>> = {
  iptables: iptablesRules,
  nftables: (proxy, { service, view }) =>
    nftServiceRules(proxy, (family) => serviceEntries(service, family, view)),
};

async function lookAtOne(look: Look, name: string): Promise<ServiceAnswer> {
  const proxy = await known(look);
  const key = name.includes('/') ? name : `default/${name}`;
  const found = await findService(proxy, look.proxySocket, key);
  const all = [...proxy.state.families, ...proxy.state.nftables].flatMap((family) => family.refused);
  const refused = all.find((one) => one.name === key);
  const row = serviceRow(key, found.service, found.view, refused?.reason);
  if (row === undefined) {
    const others = (await look.services()).map((one) => one.name).filter((one) => one.endsWith(`/${name}`));
    const there =
      others.length === 0 ? 'twill services lists those there are' : `there is ${others.join(', ')}`;
    throw new TwillError('not-found', `there is no Service ${key}: ${there}`);
  }
  const lister = listers[proxy.state.mode];
  return {
    version: 1,
    proxyAway: proxy.why,
    mode: proxy.state.mode,
    service: row,
    endpoints: endpoints(found),
    rules: lister === undefined ? [] : await lister(proxy.state, found),
    rulesKnown: lister !== undefined,
  };
}

const isTroubled = ({ trouble }: ServiceRow): boolean => trouble !== undefined;

/** `twill services [NAME]` */
export async function showServices(name: string | undefined, flags: InspectFlags): Promise<void> {
  if (name === undefined) {
    await show<ServicesAnswer & Answer>(flags, {
      look: () => looking(flags, lookAtServices),
      table: servicesTable,
      exitStatus: ({ services }) => (services.some(isTroubled) ? 1 : 0),
    });
    return;
  }
  await show<ServiceAnswer & Answer>(flags, {
    look: () => looking(flags, (look) => lookAtOne(look, name)),
    table: serviceTable,
    exitStatus: ({ service }) => (isTroubled(service) ? 1 : 0),
  });
}
