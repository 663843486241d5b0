import type { Family } from '../model/address.ts';
import { isTwillError } from '../model/error.ts';
import { KernelRefusal } from './errno.ts';
import type { MessageWriter } from './netlink/codec.ts';
import { NETLINK_NETFILTER } from './netlink/constants.ts';
import { parseTable, writeChainRequest, writeTablesRequest } from './netlink/nftables.ts';
import { RtSocket } from './netlink/socket.ts';
import { inNetns, type Netns } from './netns.ts';

/** A table of nftables; iptables-nft's are among them. */
export interface ListedTable {
  /** As nft calls it: `ip`, `inet`, … */
  readonly family: string;
  readonly name: string;
}

const iptablesTables = new Set(['raw', 'mangle', 'nat', 'filter', 'security']);

/** Whether it has the name of one that iptables-nft keeps, which prints it unless somebody has written into it with nft. */
export function isOfIptables({ family, name }: ListedTable, { nft }: Pick<Family, 'nft'>): boolean {
  return family === nft && iptablesTables.has(name);
}

/**
 * The tables of all families, in a namespace, or ours. The kernel is asked: older versions of nft read all that is in the
 * tables before they list their names, which takes seconds with ten thousand Services.
 * @returns none where the kernel has no nf_tables @throws TwillError by errno
 */
export async function listNftTables(netns?: Netns): Promise<ListedTable[]> {
  const open = (): RtSocket => new RtSocket(NETLINK_NETFILTER);
  const socket = netns === undefined ? open() : inNetns(netns, open);
  const request = { what: 'list tables of nftables', write: writeTablesRequest };
  try {
    return await socket.list({ request, read: ({ payload }) => parseTable(payload) });
  } catch (error) {
    // What nfnetlink says of a subsystem that it does not have.
    if (error instanceof KernelRefusal && error.errno === 'EINVAL') return [];
    throw error;
  } finally {
    socket.close();
  }
}

/** False where there is no such table: nft need not be started to say so. Where the kernel does not answer nft says why. */
export async function mayStand({ nft }: { readonly nft: string }, table: string): Promise<boolean> {
  try {
    return (await listNftTables()).some(({ family, name }) => family === nft && name === table);
  } catch {
    return true;
  }
}

/** A chain of a table. */
export interface NftChain {
  readonly table: string;
  readonly chain: string;
}

/** Those of the chains that there are, whatever is in them. @throws TwillError by errno */
export async function standingNftChains(
  { af }: Pick<Family, 'af'>,
  chains: readonly NftChain[],
): Promise<NftChain[]> {
  const socket = new RtSocket(NETLINK_NETFILTER);
  const found: NftChain[] = [];
  try {
    for (const one of chains) {
      const { table, chain } = one;
      const write = (to: MessageWriter): void => writeChainRequest(to, { af, name: table }, chain);
      try {
        await socket.ask({ what: `look for chain ${chain} of nftables table ${table}`, write });
        found.push(one);
      } catch (error) {
        if (!isTwillError(error, 'not-found')) throw error;
      }
    }
    return found;
  } finally {
    socket.close();
  }
}
