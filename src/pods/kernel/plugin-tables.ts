import { applyNft, listNftTable } from '../../kernel/nft.ts';
import { listNftTables } from '../../kernel/nft-tables.ts';
import { isTwillError, type TwillError } from '../../model/error.ts';
import {
  foundPluginMappings,
  hostPortTableOfPlugins,
  type PluginTableRules,
  pluginTableRules,
  pluginTables,
  portRemoval,
} from '../plan/plugin-tables.ts';
import type { PortMapping } from '../plan/pod.ts';
import type { FoundMapping } from '../plan/portmap.ts';

/** Is told of rules that stand and that cannot be read. */
export type Unread = (error: TwillError) => void;

interface ReadTable {
  readonly family: string;
  readonly name: string;
  readonly text: string;
}

/** Those of the tables that stand. */
async function readTables(unread: Unread, wanted = pluginTables): Promise<ReadTable[]> {
  const standing = await listNftTables();
  const found = wanted.filter((table) =>
    standing.some(({ family, name }) => family === table.family && name === table.name),
  );
  const read = found.map(async ({ family, name }): Promise<ReadTable[]> => {
    try {
      const text = await listNftTable({ nft: family }, name, { handles: true });
      return text === undefined ? [] : [{ family, name, text }];
    } catch (error) {
      if (!isTwillError(error, 'missing-program', 'permission', 'kernel')) throw error;
      unread(error);
      return [];
    }
  });
  return (await Promise.all(read)).flat();
}

const hostPortTables = pluginTables.filter(({ name }) => name === hostPortTableOfPlugins);

/** What the portmap and bridge plugins wrote for single containers with nftables. */
export class PluginTables {
  /** @param unread is told of tables that stand and cannot be read, here and below */
  async rules(unread: Unread): Promise<PluginTableRules[]> {
    const tables = await readTables(unread);
    return tables.flatMap(({ family, name, text }) => pluginTableRules(family, name, text));
  }

  async mappings(unread: Unread): Promise<FoundMapping[]> {
    const tables = await readTables(unread, hostPortTables);
    return tables.flatMap(({ text }) => foundPluginMappings(text));
  }

  /** Removes the rules that `wanted` names. @returns those that went */
  async remove(unread: Unread, wanted: (rules: PluginTableRules) => boolean): Promise<PluginTableRules[]> {
    let removed: PluginTableRules[] = [];
    await this.apply(async () => {
      removed = (await this.rules(unread)).filter(wanted);
      return removed.flatMap(({ removal }) => removal);
    });
    return removed;
  }

  /** Removes the rules by which ports that a new pod claims lead to these addresses: they would come before ours. */
  async removePorts(
    unread: Unread,
    claimed: readonly PortMapping[],
    addresses: ReadonlySet<string>,
  ): Promise<void> {
    await this.apply(async () => {
      const tables = await readTables(unread, hostPortTables);
      return tables.flatMap(({ family, text }) => portRemoval(family, text, claimed, addresses));
    });
  }

  /** A plugin may remove a rule between the look and the removal: then another look tells what is left. */
  private async apply(look: () => Promise<string[]>, attempts = 3): Promise<void> {
    const lines = await look();
    if (lines.length === 0) return;
    try {
      await applyNft(`${lines.join('\n')}\n`);
    } catch (error) {
      if (!isTwillError(error, 'invalid') || attempts === 1) throw error;
      await this.apply(look, attempts - 1);
    }
  }
}
