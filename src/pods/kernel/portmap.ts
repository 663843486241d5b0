import { detectVariant, type Iptables, openIptables } from '../../kernel/iptables.ts';
import { kernelFamilies } from '../../kernel/ipv6.ts';
import { listNftTable } from '../../kernel/nft.ts';
import type { Family } from '../../model/address.ts';
import { isTwillError } from '../../model/error.ts';
import { foundNftMappings, hostPortTable } from '../plan/nft-hostports.ts';
import {
  type ForeignChain,
  type FoundMapping,
  foreignChains,
  foundMappings,
  removeChainsDocument,
} from '../plan/portmap.ts';

/** The iptables that the node uses; without any there are no rules of iptables. */
async function used(family: Family): Promise<Iptables[]> {
  try {
    return [openIptables(family, (await detectVariant(family)).variant)];
  } catch (error) {
    if (!isTwillError(error, 'missing-program')) throw error;
    return [];
  }
}

async function nftTable(family: Family): Promise<string> {
  const text = await listNftTable(family, hostPortTable).catch((error: unknown) => {
    if (!isTwillError(error, 'missing-program', 'kernel')) throw error;
  });
  return text ?? '';
}

/** Rules that flannel's chain of plugins made for single containers: host ports, and masquerading by the bridge plugin. */
export class ForeignRules {
  private opened: Promise<Iptables[]> | undefined;

  private open(): Promise<Iptables[]> {
    this.opened ??= Promise.all(kernelFamilies().map(used)).then((all) => all.flat());
    this.opened.catch(() => {
      this.opened = undefined;
    });
    return this.opened;
  }

  /** The host ports that lead to pods. @throws TwillError `conflict` when the rules cannot be read */
  async mappings(): Promise<FoundMapping[]> {
    const tables = await Promise.all((await this.open()).map((iptables) => iptables.save('nat')));
    // Ours of an earlier run may be there.
    const ours = await Promise.all(kernelFamilies().map(nftTable));
    return [...ours.flatMap(foundNftMappings), ...tables.flatMap(foundMappings)];
  }

  /** Names of the chains that stand. @throws TwillError `conflict` when the rules cannot be read */
  async names(): Promise<Set<string>> {
    const tables = await Promise.all((await this.open()).map((iptables) => iptables.save('nat')));
    return new Set(tables.flatMap(foreignChains).map(({ name }) => name));
  }

  /**
   * Removes the chains that `wanted` names.
   * @returns those that went
   * @throws TwillError `conflict` when the rules cannot be read
   */
  async remove(wanted: (chain: ForeignChain) => boolean): Promise<ForeignChain[]> {
    const removed: ForeignChain[] = [];
    for (const iptables of await this.open()) {
      const chains = foreignChains(await iptables.save('nat')).filter(wanted);
      const document = removeChainsDocument(chains);
      if (document !== undefined) await iptables.restore(document);
      removed.push(...chains);
    }
    return removed;
  }
}
