import type { IptablesVariant } from '../kernel/iptables.ts';
import { isOfIptables, type ListedTable, listNftTables } from '../kernel/nft-tables.ts';
import { legacyTables } from '../kernel/used-iptables.ts';
import { type Family, families } from '../model/address.ts';
import { describeError } from '../model/error.ts';
import { tableName } from '../services/nftables/plan/names.ts';
import type { Look } from './look.ts';
import type { ProxyState } from './plan/state.ts';
import { command, type Piece, readPiece } from './report-pieces.ts';

/** Elements of the proxy's sets that are listed: with ten thousand Services nft takes seconds, and most is cut away. */
const MOST_ELEMENTS = 10_000;

/**
 * All rules, each once: those of tables that iptables-nft prints not by nft again.
 * @param proxy what is known of the proxy, whose sets may be very large
 */
export async function rulesPieces(look: Look, proxy: ProxyState | undefined): Promise<Piece[]> {
  const tables = await listNftTables().catch((error: unknown) => describeError(error));
  const savedPiece = (family: Family, variant: IptablesVariant): Piece => {
    const program = `${family.iptables}-${variant}`;
    const read = async (): Promise<string> =>
      `# ${program}-save -c\n${(await look.savedRules(family, variant)) ?? '(it does not work here)'}`;
    return { name: `rules/${program}.txt`, read };
  };
  // iptables-legacy makes the tables that it is asked for: only what is there is asked.
  const saves = families.flatMap((family) => [
    savedPiece(family, 'nft'),
    ...(legacyTables(family).length > 0 ? [savedPiece(family, 'legacy')] : []),
  ]);
  const isPrinted = async (table: ListedTable): Promise<boolean> => {
    const family = families.find((one) => isOfIptables(table, one));
    const saved = family && (await look.savedRules(family, 'nft'));
    return saved?.includes(`*${table.name}\n`) === true;
  };
  const elements = (proxy?.nftables ?? []).flatMap((one) => Object.values(one.elements));
  const isLarge = elements.reduce((sum, count) => sum + count, 0) > MOST_ELEMENTS;
  const read = async (): Promise<string> => {
    if (typeof tables === 'string') return `(${tables})\n`;
    const texts: string[] = [];
    for (const table of tables) {
      if (await isPrinted(table)) continue;
      const terse = isLarge && table.name === tableName ? ['--terse'] : [];
      const list = command(table.name, 'nft', ...terse, 'list', 'table', table.family, table.name);
      texts.push(await readPiece(list));
    }
    return texts.length === 0 ? '(no other tables)\n' : texts.join('');
  };
  return [...saves, { name: 'rules/nft.txt', read }];
}
