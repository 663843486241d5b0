import { everyIptables, type Iptables } from '../../kernel/iptables.ts';
import { saveReadable } from '../../kernel/iptables-reading.ts';
import { kernelFamilies } from '../../kernel/ipv6.ts';
import { listNftTable } from '../../kernel/nft.ts';
import { mayHaveTable } from '../../kernel/used-iptables.ts';
import type { Family } from '../../model/address.ts';
import { describeError, isTwillError, type TwillError } from '../../model/error.ts';
import { type Log, LogLimiter } from '../../process/log.ts';
import { foundNftMappings, hostPortTable } from '../plan/nft-hostports.ts';
import type { PortMapping } from '../plan/pod.ts';
import {
  type ForwardRules,
  foreignChains,
  forwardChain,
  forwardRules,
  foundMappings,
  type PluginRules,
  type ReadMappings,
  removeChainsDocument,
  removeForwardDocument,
} from '../plan/portmap.ts';
import { PluginTables, type Unread } from './plugin-tables.ts';

/**
 * Table nat of one iptables, as far as it is about host ports and what pods send out; undefined where there is none.
 * @param unread is told of one that there is and that cannot be read: iptables-legacy's without CAP_NET_RAW, say
 * @throws TwillError `conflict` when some of it cannot be read
 */
async function natTable(iptables: Iptables, unread: Unread): Promise<string | undefined> {
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

/** The chain of the firewall plugin; undefined where there is none. */
async function forwardLines(iptables: Iptables, unread: Unread): Promise<string[] | undefined> {
  const { family, variant } = iptables;
  if (!mayHaveTable(family, variant, 'filter')) return undefined;
  try {
    return await iptables.list('filter', forwardChain);
  } catch (error) {
    if (isTwillError(error, 'permission', 'kernel')) unread(error);
    else if (!isTwillError(error, 'missing-program', 'not-found', 'conflict')) throw error;
    return undefined;
  }
}

interface NatTable {
  readonly iptables: Iptables;
  readonly saved: string;
}

async function nftTable(family: Family, unread: Unread): Promise<string> {
  const text = await listNftTable(family, hostPortTable).catch((error: unknown) => {
    if (isTwillError(error, 'permission', 'kernel')) unread(error);
    else if (!isTwillError(error, 'missing-program')) throw error;
  });
  return text ?? '';
}

/**
 * Rules that flannel's chain of plugins made for single containers: host ports, masquerading by the bridge plugin, those
 * against forged MACs, and what the firewall plugin accepts.
 */
export class ForeignRules {
  private readonly log: Log;
  private readonly limiter = new LogLimiter();
  private readonly nft = new PluginTables();

  constructor(log: Log) {
    this.log = log;
  }

  private tell(error: TwillError): void {
    const reason = describeError(error);
    if (this.limiter.allow(reason) !== undefined)
      this.log.warn({ error: reason }, 'rules that other plugins made for pods may stand there, unread');
  }

  /** What cannot be read for the moment is kept; what nobody lets us read, or no program can, is only told: it never will be. */
  private notices(): { readonly unread: Unread; readonly passing: TwillError[] } {
    const passing: TwillError[] = [];
    const unread = (error: TwillError): void => {
      this.tell(error);
      if (!isTwillError(error, 'permission', 'missing-program')) passing.push(error);
    };
    return { unread, passing };
  }

  /** In both variants: the plugins of a chain take the host's iptables, and whoever makes the other rules perhaps another. */
  private async tables(unread: Unread): Promise<NatTable[]> {
    const read = everyIptables().map(async (iptables) => ({
      iptables,
      saved: await natTable(iptables, unread),
    }));
    return (await Promise.all(read)).flatMap(({ iptables, saved }) =>
      saved === undefined ? [] : [{ iptables, saved }],
    );
  }

  /**
   * The host ports that lead to pods, as far as they can be read.
   * @throws TwillError `conflict` when the rules cannot be read
   */
  async mappings(): Promise<ReadMappings> {
    const { unread, passing } = this.notices();
    const tables = await this.tables(unread);
    // Ours of an earlier run may be there.
    const ours = await Promise.all(kernelFamilies().map((family) => nftTable(family, unread)));
    const found = [
      ...ours.flatMap(foundNftMappings),
      ...tables.flatMap(({ saved }) => foundMappings(saved)),
      ...(await this.nft.mappings(unread)),
    ];
    return { found, isWhole: passing.length === 0 };
  }

  /** Names of what stands. @throws TwillError `conflict` when the rules cannot be read */
  async names(): Promise<Set<string>> {
    const { unread } = this.notices();
    const chains = (await this.tables(unread)).flatMap(({ saved }) => foreignChains(saved));
    const forward = (await this.forward(unread)).flatMap(({ rules }) => rules);
    return new Set([...chains, ...forward, ...(await this.nft.rules(unread))].map(({ name }) => name));
  }

  private async forward(
    unread: Unread,
  ): Promise<{ readonly iptables: Iptables; readonly rules: readonly ForwardRules[] }[]> {
    const read = everyIptables().map(async (iptables) => ({
      iptables,
      rules: forwardRules((await forwardLines(iptables, unread)) ?? []),
    }));
    return await Promise.all(read);
  }

  /**
   * Removes what `wanted` names.
   * @returns what went
   * @throws TwillError when some of it cannot be read now; the rest went
   */
  async remove(wanted: (rules: PluginRules) => boolean): Promise<PluginRules[]> {
    const { unread, passing } = this.notices();
    const removed: PluginRules[] = await this.nft.remove(unread, wanted).catch((error: unknown) => {
      if (!isTwillError(error)) throw error;
      passing.push(error);
      return [];
    });
    for (const { iptables, saved } of await this.tables(unread)) {
      const chains = foreignChains(saved).filter(wanted);
      const document = removeChainsDocument(chains);
      if (document !== undefined) await iptables.restore(document);
      removed.push(...chains);
    }
    for (const { iptables, rules } of await this.forward(unread)) {
      const gone = rules.filter(wanted);
      const document = removeForwardDocument(gone);
      if (document !== undefined) await iptables.restore(document);
      removed.push(...gone);
    }
    if (passing[0] !== undefined) throw passing[0];
    return removed;
  }

  /**
   * Has ports that a new pod claims lead to these addresses no more, where other plugins' rules come before ours: those in
   * nftables do. In iptables ours are the first.
   */
  async giveWay(claimed: readonly PortMapping[], addresses: ReadonlySet<string>): Promise<void> {
    await this.nft.removePorts((error) => this.tell(error), claimed, addresses);
  }
}
