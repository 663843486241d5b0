// The nftables table of the proxy as a world to walk packets through: chains as nft prints them, elements as the kernel has
// them.
import type { SetElement } from '../../src/inspect/trace/plan/chains.ts';
import { ruleSet } from '../../src/inspect/trace/plan/hooks.ts';
import { parseNftTable } from '../../src/inspect/trace/plan/nft-rules.ts';
import { addressValue } from '../../src/inspect/trace/plan/packet.ts';
import type { NftTable } from '../../src/kernel/nft-table.ts';
import {
  type Layout,
  layouts,
  type SetName,
  setNames,
  shapesMap,
} from '../../src/services/nftables/plan/names.ts';
import { packedText } from '../../src/services/nftables/plan/pack.ts';
import { readStanding, type StandingRules } from '../../src/services/nftables/standing-rules.ts';
import type { Namespace } from './namespace.ts';
import type { World } from './packet-walker.ts';

const protocols: Readonly<Record<string, string>> = { '6': 'tcp', '17': 'udp', '132': 'sctp' };

type Elements = ReadonlyMap<string, SetElement>;

/** A key as nft writes it; a walker may know a protocol by its number. */
function keyOf(set: string, parts: readonly string[]): string {
  const { key }: Layout = layouts[set as SetName] ?? { key: [] };
  return parts
    .map((part, index) => (key[index] === 'protocol' ? (protocols[part] ?? part) : part))
    .join(' . ');
}

function textElements({ elements, shapes }: StandingRules, v6: boolean): Map<string, Elements> {
  const all = new Map<string, Elements>();
  for (const set of setNames) {
    const { key, data }: Layout = layouts[set];
    const texts = [...elements[set]].map(([packed, value]): [string, SetElement] => [
      packedText(layouts[set] === layouts.sources ? [...key, 'address'] : key, packed, v6),
      { value: data && packedText(data, value, v6) },
    ]);
    all.set(set, new Map(texts));
  }
  const verdicts = [...shapes].map(([number, chain]): [string, SetElement] => [
    `0:${number.toString(16)}`,
    { value: `goto ${chain}` },
  ]);
  return all.set(shapesMap, new Map(verdicts));
}

/** Whether somebody is within a range of those that may use an address. */
function inRanges(ranges: Elements, parts: readonly string[]): SetElement | undefined {
  const start = `${keyOf('sources', parts.slice(0, 3))} . `;
  const who = addressValue(parts[3]!);
  const found = [...ranges.keys()].some((text) => {
    const [first, last] = text.startsWith(start) ? text.slice(start.length).split(' . ') : [];
    return first !== undefined && addressValue(first) <= who && who <= addressValue(last!);
  });
  return found ? { value: undefined } : undefined;
}

/** @param local the node's own addresses */
export async function standingNftWorld(
  namespace: Namespace,
  table: NftTable,
  local: ReadonlySet<string>,
): Promise<World> {
  const { family, name } = table;
  const list = ['list', 'table', family.nft, name];
  const [document, print, standing] = await Promise.all([
    namespace.exec('nft', ['-j', '-t', ...list]),
    namespace.exec('nft', ['-a', '-t', ...list]),
    readStanding(table),
  ]);
  const texts = textElements(standing, family.bits === 128);
  return {
    rules: ruleSet(parseNftTable(family.nft, name, document, print).chains, []),
    surroundings: {
      addressType: (address) => (local.has(address) ? 'LOCAL' : 'UNICAST'),
      recent: () => undefined,
      ipset: () => undefined,
      element: (set, parts) => {
        const short = set.split(' ').at(-1)!;
        const elements = texts.get(short);
        if (short === 'sources') return inRanges(elements!, parts);
        return elements?.get(keyOf(short, parts));
      },
      masqueradeAddress: () => [...local][0],
    },
    local,
  };
}
