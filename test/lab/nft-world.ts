import type { SetElement } from '../../src/inspect/trace/plan/chains.ts';
import { ruleSet } from '../../src/inspect/trace/plan/hooks.ts';
import { parseNftTable } from '../../src/inspect/trace/plan/nft-rules.ts';
import { parseAddress } from '../../src/model/address.ts';
import type { Namespace } from './namespace.ts';
import type { World } from './packet-walker.ts';

/** Elements of one set or map, as the document that adds them says them. */
interface Elements {
  readonly single: Map<string, SetElement>;
  /** Keys that end with a range of addresses. */
  readonly ranges: { readonly before: string; readonly from: bigint; readonly to: bigint }[];
}

const added = /^add element \S+ (\S+) (\S+) \{ (.*?)(?: comment "[^"]*")?(?: : (.*))? \}$/;

function readElements(document: string): Map<string, Elements> {
  const sets = new Map<string, Elements>();
  for (const line of document.split('\n')) {
    const [, table, set, key, value] = added.exec(line) ?? [];
    if (key === undefined) continue;
    const name = `${table} ${set}`;
    const elements: Elements = sets.get(name) ?? { single: new Map(), ranges: [] };
    sets.set(name, elements);
    const [, before = '', from, to] = /^(?:(.*) \. )?([^ -]+)-([^ -]+)$/.exec(key) ?? [];
    if (from === undefined) elements.single.set(key, { value });
    else elements.ranges.push({ before, from: parseAddress(from).value, to: parseAddress(to!).value });
  }
  return sets;
}

function find(elements: Elements | undefined, key: readonly string[]): SetElement | undefined {
  const found = elements?.single.get(key.join(' . '));
  if (found !== undefined || elements === undefined || elements.ranges.length === 0) return found;
  const before = key.slice(0, -1).join(' . ');
  const { value } = parseAddress(key.at(-1)!);
  const range = elements.ranges.find((one) => one.before === before && one.from <= value && value <= one.to);
  return range && { value: undefined };
}

/**
 * A document of nft as the kernel has it once it was loaded, to walk packets through. What it had before of the table is
 * taken away.
 * @param document creates one table, and adds its elements
 */
export async function nftWorld(
  namespace: Namespace,
  document: string,
  local: ReadonlySet<string>,
): Promise<World> {
  const [, family = '', table = ''] = /^add table (\S+) (\S+)/m.exec(document) ?? [];
  const name = `${family} ${table}`;
  const whole = `add table ${name}\ndelete table ${name}\n${document}`;
  await namespace.exec('nft', ['-f', '-'], { input: whole });
  const list = ['list', 'table', family, table];
  const [json, text] = await Promise.all([
    namespace.exec('nft', ['-j', '-t', ...list]),
    namespace.exec('nft', ['-a', '-t', ...list]),
  ]);
  const sets = readElements(document);
  return {
    rules: ruleSet(parseNftTable(family, table, json, text).chains, []),
    surroundings: {
      addressType: (address) => (local.has(address) ? 'LOCAL' : 'UNICAST'),
      recent: () => undefined,
      element: (set, key) => find(sets.get(set.split(' ').slice(1).join(' ')), key),
      ipset: () => undefined,
      masqueradeAddress: () => [...local][0],
    },
    local,
  };
}
