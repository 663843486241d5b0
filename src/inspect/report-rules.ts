import { isOfIptables, type ListedTable, legacyTables, listNftTables } from '../kernel/nft-tables.ts';
import { families } from '../model/address.ts';
import { tableName } from '../services/nftables/plan/names.ts';
import type { ProxyState } from './plan/state.ts';
import { command, type Piece, readPiece } from './report-pieces.ts';

/** Elements of the proxy's sets that are listed: with ten thousand Services nft takes seconds, and most is cut away. */
const MOST_ELEMENTS = 10_000;

/**
 * All rules, each once: those of tables that iptables-nft prints not by nft again.
 * @param proxy what is known of the proxy, whose sets may be very large
 */
export async function rulesPieces(proxy: ProxyState | undefined): Promise<Piece[]> {
  const tables = await listNftTables().catch(() => []);
  const printed = new Set<ListedTable>();
  const savePiece = (program: string, name: string): Piece =>
    command(`rules/${program}-${name}.txt`, `${program}-save`, '-c', '-t', name);
  const saves = families.flatMap((family) => {
    const own = tables.filter((table) => isOfIptables(table, family));
    return own.map((table): Piece => {
      const save = savePiece(`${family.iptables}-nft`, table.name);
      const read = async (): Promise<string> => {
        const text = await save.read();
        if (text.includes(`\n*${table.name}\n`)) printed.add(table);
        return text;
      };
      return { ...save, read };
    });
  });
  const legacy = families.flatMap((family) =>
    legacyTables(family).map((name) => savePiece(`${family.iptables}-legacy`, name)),
  );
  const elements = (proxy?.nftables ?? []).flatMap((one) => Object.values(one.elements));
  const isLarge = elements.reduce((sum, count) => sum + count, 0) > MOST_ELEMENTS;
  const read = async (): Promise<string> => {
    const texts: string[] = [];
    for (const table of tables) {
      if (printed.has(table)) continue;
      const terse = isLarge && table.name === tableName ? ['--terse'] : [];
      const list = command(table.name, 'nft', ...terse, 'list', 'table', table.family, table.name);
      texts.push(await readPiece(list));
    }
    return texts.length === 0 ? '(no other tables)\n' : texts.join('');
  };
  return [...saves, ...legacy, { name: 'rules/nft.txt', read }];
}
