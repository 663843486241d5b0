import { openNftTable } from '../kernel/nft-table.ts';
import { type Family, families } from '../model/address.ts';
import type { Chain } from '../services/nftables/plan/chains.ts';
import { allDifferences, type Difference as ElementDifference } from '../services/nftables/plan/changes.ts';
import type { Elements } from '../services/nftables/plan/elements.ts';
import {
  type Layout,
  layouts,
  type SetName,
  shapeBits,
  shapesMap,
  tableName,
} from '../services/nftables/plan/names.ts';
import { packedText, unpackNumber } from '../services/nftables/plan/pack.ts';
import { Ruleset } from '../services/nftables/plan/ruleset.ts';
import { renderServicePort } from '../services/nftables/plan/service-rules.ts';
import { isShape } from '../services/nftables/plan/shapes.ts';
import { readStanding, type StandingRules, stampOf } from '../services/nftables/standing-rules.ts';
import { serviceEntries } from '../services/plan/table.ts';
import { ask } from './client.ts';
import type { Difference } from './plan/difference.ts';
import type { ServiceRule } from './plan/service-lines.ts';
import type { ProxyState } from './plan/state.ts';
import type { LoadedServices } from './services-source.ts';

type FamilyState = ProxyState['nftables'][number];

interface Desired {
  readonly elements: Elements;
  readonly chains: readonly Chain[];
}

/** The elements of ten thousand Services are some megabytes. */
const ASK_MS = 5000;

async function askedTable(socketPath: string, family: string): Promise<Desired | undefined> {
  const text = await ask('proxy', socketPath, { inspect: 'rules', family }, ASK_MS);
  const { table } = JSON.parse(text) as {
    table?: { elements: Record<SetName, [string, string][]>; chains: readonly Chain[] };
  };
  if (table === undefined) return undefined;
  const sets = Object.entries(table.elements).map(([set, all]) => [set, new Map(all)]);
  return { elements: Object.fromEntries(sets) as Elements, chains: table.chains };
}

/** Worked out from the Services; each keeps the number that it has in the kernel. */
function desiredTable(
  { tracker, view }: LoadedServices,
  standing: StandingRules,
  family: Family,
  render: FamilyState['render'],
): Desired {
  const ruleset = new Ruleset(render);
  ruleset.adopt(standing);
  for (const key of tracker.keys()) {
    const entries = serviceEntries(tracker.state(key), family, view);
    ruleset.setService(
      key,
      entries.map((entry) => renderServicePort(entry, render)),
    );
  }
  return { elements: ruleset.elements, chains: ruleset.chains() };
}

/** A key or value as nft writes it; a range as its first and last address. */
function shown(set: SetName, text: string, v6: boolean, part: 'key' | 'data' = 'key'): string {
  const layout: Layout = layouts[set];
  const fields = layout[part] ?? [];
  if (part === 'key' && layout.interval === true) return packedText([...fields, 'address'], text, v6);
  return packedText(fields, text, v6);
}

function elementDifference({ set, key, was, wanted }: ElementDifference, family: Family): Difference {
  const v6 = family.bits === 128;
  const data = (value: string): string => (value === '' ? 'it' : shown(set, value, v6, 'data'));
  const detail =
    was === undefined
      ? `${data(wanted!)} should be there`
      : wanted === undefined
        ? `${data(was)} is there, and no Service asks for it`
        : `${data(wanted)} should be there, and is ${data(was)}`;
  return {
    kind: 'service rules',
    object: `${set} ${shown(set, key, v6)} (${family.kubeName})`,
    state: was === undefined ? 'missing' : wanted === undefined ? 'foreign' : 'wrong',
    detail,
    show: `nft list ${'data' in layouts[set] ? 'map' : 'set'} ${family.nft} ${tableName} ${set}`,
  };
}

function chainDifferences(chains: readonly Chain[], standing: StandingRules, family: Family): Difference[] {
  const one = (name: string, state: Difference['state'], detail: string): Difference => ({
    kind: 'service rules',
    object: `chain ${name} (${family.kubeName})`,
    state,
    detail,
    show: `nft list chain ${family.nft} ${tableName} ${name}`,
  });
  const names = new Set(chains.map(({ name }) => name));
  const foreign = [...standing.chains.keys()].filter((name) => !names.has(name));
  return [
    ...chains.flatMap((chain) => {
      const is = standing.chains.get(chain.name);
      if (is === undefined) return one(chain.name, 'missing', 'the chain is gone');
      if (standing.stamps.get(chain.name) === stampOf(chain, is)) return [];
      return one(chain.name, 'wrong', 'its rules are not those that were written');
    }),
    ...foreign.map((name) => one(name, 'foreign', 'the proxy has no such chain')),
  ];
}

/** Chains that stand and see no packet: the table sleeps, or no number leads there. */
function unreached(chains: readonly Chain[], standing: StandingRules, family: Family): Difference[] {
  const one = (object: string, show: string, detail: string): Difference => ({
    kind: 'service rules',
    object: `${object} (${family.kubeName})`,
    state: 'wrong',
    detail,
    show: `nft list ${show.replace(' ', ` ${family.nft} ${tableName} `).trim()}`,
  });
  const led = new Set(standing.shapes.values());
  return [
    ...(standing.dormant
      ? [one(`table ${tableName}`, 'table ', 'it is dormant: no packet comes into its chains')]
      : []),
    ...chains
      .filter(({ name }) => isShape(name) && standing.chains.has(name) && !led.has(name))
      .map(({ name }) => one(`chain ${name}`, `map ${shapesMap}`, 'no element leads to it')),
  ];
}

async function readTable(family: Family): Promise<StandingRules> {
  const table = openNftTable(family, tableName);
  try {
    return await readStanding(table);
  } finally {
    table.close();
  }
}

/**
 * What of the tables of mode nftables is not as it should be.
 * @param loaded the Services, for a proxy that does not answer
 */
export async function nftServiceDifferences(
  { nftables }: ProxyState,
  socketPath: string,
  loaded: LoadedServices | undefined,
): Promise<Difference[]> {
  const found: Difference[] = [];
  for (const { family: name, render } of nftables) {
    const family = families.find((one) => one.name === name)!;
    const standing = await readTable(family);
    const desired =
      loaded === undefined
        ? await askedTable(socketPath, name)
        : desiredTable(loaded, standing, family, render);
    if (desired === undefined) continue;
    found.push(...chainDifferences(desired.chains, standing, family));
    found.push(...unreached(desired.chains, standing, family));
    for (const one of allDifferences({ wanted: desired.elements, installed: standing.elements }))
      if (one !== undefined) found.push(elementDifference(one, family));
  }
  return found;
}

/** The number of a Service port: the upper bits of an id. */
const serialOf = (id: string): number => unpackNumber(id) >>> shapeBits;

/** The elements that implement a Service, as they stand; elements are not counted. */
export async function nftServiceRules(
  { nftables }: ProxyState,
  entriesOf: (family: Family) => ReturnType<typeof serviceEntries>,
): Promise<ServiceRule[]> {
  const found: ServiceRule[] = [];
  for (const { family: name, render } of nftables) {
    const family = families.find((one) => one.name === name)!;
    const v6 = family.bits === 128;
    const { elements } = await readTable(family);
    const add = (set: SetName, key: string, data = ''): void => {
      const value = data === '' ? '' : ` : ${shown(set, data, v6, 'data')}`;
      const rule = shown(set, key, v6) + value;
      found.push({ family: name, table: tableName, chain: set, rule, packets: undefined });
    };
    for (const { protocol, claims } of entriesOf(family).map((entry) => renderServicePort(entry, render))) {
      const numbers = new Set<number>();
      for (const { space, key } of claims) {
        const sets: readonly SetName[] =
          space === 'address'
            ? ['firewalled', 'services', 'no-endpoints', 'no-local-endpoints']
            : ['node-ports', 'node-no-endpoints', 'node-no-local-endpoints'];
        for (const set of sets) {
          const data = elements[set].get(key);
          if (data === undefined) continue;
          add(set, key, data);
          if (data !== '') numbers.add(serialOf(data));
        }
      }
      const endpoints = `endpoints-${protocol}` as const;
      for (const set of [endpoints, 'sticky', 'sticky-local'] as const) {
        const its = [...elements[set]].filter(([key]) => numbers.has(serialOf(key)));
        const order = ([key]: readonly [string, string]): number =>
          key.length > 4 ? unpackNumber(key, 4) : 0;
        for (const [key, data] of its.sort((one, other) => order(one) - order(other))) add(set, key, data);
      }
    }
  }
  return found;
}
