import { detectVariant, type Iptables, openIptables } from '../../kernel/iptables.ts';
import { kernelFamilies } from '../../kernel/ipv6.ts';
import {
  type ForeignChain,
  type FoundMapping,
  foreignChains,
  foundMappings,
  removeChainsDocument,
} from '../plan/portmap.ts';

/** Rules that flannel's chain of plugins made for single containers: host ports, and masquerading by the bridge plugin. */
export class ForeignRules {
  private opened: Promise<Iptables[]> | undefined;

  private open(): Promise<Iptables[]> {
    this.opened ??= Promise.all(
      kernelFamilies().map(async (family) => openIptables(family, (await detectVariant(family)).variant)),
    );
    this.opened.catch(() => {
      this.opened = undefined;
    });
    return this.opened;
  }

  /** The host ports that lead to pods. @throws TwillError `conflict` when the rules cannot be read */
  async mappings(): Promise<FoundMapping[]> {
    const tables = await Promise.all((await this.open()).map((iptables) => iptables.save('nat')));
    return tables.flatMap(foundMappings);
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
