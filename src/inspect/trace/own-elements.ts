import { openNftTable } from '../../kernel/nft-table.ts';
import { families } from '../../model/address.ts';
import {
  type Layout,
  layouts,
  type SetName,
  shapesMap,
  tableName,
} from '../../services/nftables/plan/names.ts';
import { packedText } from '../../services/nftables/plan/pack.ts';
import type { SetElement } from './plan/chains.ts';
import { printedElements } from './plan/nft-rules.ts';
import { runIn } from './rules.ts';

/** Elements by their keys, as nft writes both. */
type Elements = ReadonlyMap<string, SetElement>;

async function listLayout(family: (typeof families)[number], set: SetName): Promise<Elements> {
  const layout: Layout = layouts[set];
  const v6 = family.bits === 128;
  const found = new Map<string, SetElement>();
  const table = openNftTable(family, tableName);
  try {
    await table.elements(
      set,
      () => found.clear(),
      ({ key, data }) => {
        const value =
          layout.data === undefined || data === undefined ? undefined : packedText(layout.data, data, v6);
        found.set(packedText(layout.key, key, v6), { value });
      },
    );
  } finally {
    table.close();
  }
  return found;
}

/** The few verdicts: nft lists one map at the cost of its own elements. */
async function listPrinted(family: string, set: string): Promise<Elements | undefined> {
  const result = await runIn(undefined, 'nft', ['list', 'map', family, tableName, set]);
  return result?.status === 0 ? printedElements(result.stdout) : undefined;
}

/**
 * Elements of the proxy's own tables, in this namespace. For each key that it is asked for nft reads the elements of all
 * sets there are: half a minute with ten thousand Services. Here each set that matters is read once.
 */
export class OwnElements {
  private readonly lists = new Map<string, Promise<Elements | undefined>>();

  /** All elements of a set; undefined for one that is not the proxy's, or is looked up otherwise than by whole keys. */
  private list(set: string): Promise<Elements | undefined> {
    const known = this.lists.get(set);
    if (known !== undefined) return known;
    const [family, table, name = ''] = set.split(' ');
    const own = families.find(({ nft }) => nft === family);
    let list: Promise<Elements | undefined> = Promise.resolve(undefined);
    if (own !== undefined && table === tableName) {
      const layout: Layout | undefined = Object.hasOwn(layouts, name) ? layouts[name as SetName] : undefined;
      if (layout !== undefined && layout.interval !== true) list = listLayout(own, name as SetName);
      else if (name === shapesMap) list = listPrinted(own.nft, name);
    }
    this.lists.set(set, list);
    return list;
  }

  /**
   * @param set `FAMILY TABLE NAME`
   * @returns the element, in a list of none where the set has none; undefined where nft has to be asked
   */
  async find(set: string, key: readonly string[]): Promise<readonly SetElement[] | undefined> {
    const elements = await this.list(set);
    const element = elements?.get(key.join(' . '));
    return elements === undefined ? undefined : element === undefined ? [] : [element];
  }
}
