import { everyIptables, type Iptables } from '../../kernel/iptables.ts';
import { saveReadable } from '../../kernel/iptables-reading.ts';
import { kernelFamilies } from '../../kernel/ipv6.ts';
import { listNftTable } from '../../kernel/nft.ts';
import { mayHaveTable } from '../../kernel/used-iptables.ts';
import type { Family } from '../../model/address.ts';
import { describeError, isTwillError } from '../../model/error.ts';
import { type Log, LogLimiter } from '../../process/log.ts';
import { foundNftMappings, hostPortTable } from '../plan/nft-hostports.ts';
import {
  type ForeignChain,
  type FoundMapping,
  foreignChains,
  foundMappings,
  removeChainsDocument,
} from '../plan/portmap.ts';

/**
 * Table nat of one iptables, as far as it is about host ports and what pods send out; undefined where there is none.
 * @param unread is told of one that there is and that nobody lets us read: iptables-legacy without CAP_NET_RAW
 * @throws TwillError `conflict` when some of it cannot be read
 */
async function natTable(iptables: Iptables, unread: (error: Error) => void): Promise<string | undefined> {
  const { family, variant } = iptables;
  if (!mayHaveTable(family, variant, 'nat')) return undefined;
  try {
    return await saveReadable(iptables, 'nat', (name) => /^CNI-|^TWILL-HP-|^POSTROUTING$/.test(name));
  } catch (error) {
    if (isTwillError(error, 'permission', 'kernel')) unread(error);
    else if (!isTwillError(error, 'missing-program', 'not-found')) throw error;
    return undefined;
  }
}

interface NatTable {
  readonly iptables: Iptables;
  readonly saved: string;
}

async function nftTable(family: Family): Promise<string> {
  const text = await listNftTable(family, hostPortTable).catch((error: unknown) => {
    if (!isTwillError(error, 'missing-program', 'kernel')) throw error;
  });
  return text ?? '';
}

/** Rules that flannel's chain of plugins made for single containers: host ports, and masquerading by the bridge plugin. */
export class ForeignRules {
  private readonly log: Log;
  private readonly limiter = new LogLimiter();

  constructor(log: Log) {
    this.log = log;
  }

  /** In both variants: the plugins of a chain take the host's iptables, and whoever makes the other rules perhaps another. */
  private async tables(): Promise<NatTable[]> {
    const unread = (error: Error): void => {
      const reason = describeError(error);
      if (this.limiter.allow(reason) !== undefined)
        this.log.warn({ error: reason }, 'rules that other plugins made for pods may stand there, unread');
    };
    const read = everyIptables().map(async (iptables) => ({
      iptables,
      saved: await natTable(iptables, unread),
    }));
    return (await Promise.all(read)).flatMap(({ iptables, saved }) =>
      saved === undefined ? [] : [{ iptables, saved }],
    );
  }

  /** The host ports that lead to pods. @throws TwillError `conflict` when the rules cannot be read */
  async mappings(): Promise<FoundMapping[]> {
    const tables = await this.tables();
    // Ours of an earlier run may be there.
    const ours = await Promise.all(kernelFamilies().map(nftTable));
    return [...ours.flatMap(foundNftMappings), ...tables.flatMap(({ saved }) => foundMappings(saved))];
  }

  /** Names of the chains that stand. @throws TwillError `conflict` when the rules cannot be read */
  async names(): Promise<Set<string>> {
    const chains = (await this.tables()).flatMap(({ saved }) => foreignChains(saved));
    return new Set(chains.map(({ name }) => name));
  }

  /**
   * Removes the chains that `wanted` names.
   * @returns those that went
   * @throws TwillError `conflict` when the rules cannot be read
   */
  async remove(wanted: (chain: ForeignChain) => boolean): Promise<ForeignChain[]> {
    const removed: ForeignChain[] = [];
    for (const { iptables, saved } of await this.tables()) {
      const chains = foreignChains(saved).filter(wanted);
      const document = removeChainsDocument(chains);
      if (document !== undefined) await iptables.restore(document);
      removed.push(...chains);
    }
    return removed;
  }
}
