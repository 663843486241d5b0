import type { Family } from '../model/address.ts';
import { isTwillError } from '../model/error.ts';
import { NETLINK_NETFILTER } from './netlink/constants.ts';
import { EventSocket } from './netlink/events.ts';
import { rulesOfOthers } from './netlink/filter.ts';
import { ListingSocket } from './netlink/listing.ts';
import {
  batchOf,
  type ListedElement,
  NFNLGRP_NFTABLES,
  parseChain,
  parseElements,
  parseNotice,
  parseRule,
  parseSetName,
  type TableChange,
  type TableName,
  tableFlags,
  writeChainRequest,
  writeChainsRequest,
  writeElementsRequest,
  writeRulesRequest,
  writeSetsRequest,
  writeTableRequest,
} from './netlink/nftables.ts';
import { type Change, RtSocket } from './netlink/socket.ts';
import { inNetns } from './netns.ts';
import { applyNft } from './nft.ts';

interface NamedChain {
  readonly name: string;
  /** Where packets come in there, in the kernel's words. */
  readonly hook: string;
}

export type TableState = 'missing' | 'dormant' | 'owned' | 'active';

/** A chain as it stands. */
export interface ListedChain extends NamedChain {
  /** The kernel's words for each rule. */
  readonly rules: readonly Buffer[];
}

/**
 * One nftables table: documents go through the `nft` program, elements of sets and chains without a hook directly to the
 * kernel, since starting a program takes longer than a thousand of these. Each call is one transaction.
 */
export interface NftTable {
  readonly family: Family;
  readonly name: string;
  /** @throws TwillError `invalid` with nft's message, `missing-program`, `permission` */
  apply(document: string): Promise<void>;
  /** @returns how many bytes it took @throws TwillError by errno; nothing was changed then */
  write(changes: readonly TableChange[]): Promise<number>;
  /** Of a table that is `dormant` no chain sees a packet; one that is `owned` a program that runs alone may change. */
  state(): Promise<TableState>;
  /** The names of its sets and maps; none where there is no such table. */
  sets(): Promise<ReadonlySet<string>>;
  /** @param reset told that listing begins, also anew */
  elements(set: string, reset: () => void, onElement: (element: ListedElement) => void): Promise<void>;
  chains(): Promise<readonly ListedChain[]>;
  /** As {@link chains}, those of these names only. */
  chainsOf(names: readonly string[]): Promise<readonly ListedChain[]>;
  /**
   * Tells of changes that did not come through {@link write}: others', and those of {@link apply}.
   * @param onSet told the set when it is elements that have changed, else undefined
   * @param onLost told when some changes may not have been told
   * @returns ends it
   */
  listen(onSet: (set: string | undefined) => void, onLost: () => void): () => void;
  close(): void;
}

class KernelTable implements NftTable {
  readonly family: Family;
  readonly name: string;
  private readonly table: TableName;
  private readonly netns: string | undefined;
  private readonly socket: RtSocket;

  constructor(family: Family, name: string, netns: string | undefined) {
    this.family = family;
    this.name = name;
    this.netns = netns;
    this.table = { af: family.af, name };
    this.socket = this.inside(() => new RtSocket(NETLINK_NETFILTER));
  }

  apply(document: string): Promise<void> {
    return applyNft(document, { netns: this.netns });
  }

  async write(changes: readonly TableChange[]): Promise<number> {
    const { messages, write } = batchOf(this.table, changes);
    return await this.socket.transaction(`change nftables table ${this.name}`, messages, write);
  }

  async state(): Promise<TableState> {
    const answer = await this.ask('table', (to) => writeTableRequest(to, this.table));
    if (answer === undefined) return 'missing';
    const { isDormant, isOwned } = tableFlags(answer);
    return isOwned ? 'owned' : isDormant ? 'dormant' : 'active';
  }

  async sets(): Promise<ReadonlySet<string>> {
    const request = this.request('sets', (to) => writeSetsRequest(to, this.table));
    return new Set(await this.list(request, (payload) => parseSetName(payload, this.table)));
  }

  async elements(set: string, reset: () => void, onElement: (element: ListedElement) => void): Promise<void> {
    const request = this.request(`set ${set}`, (to) => writeElementsRequest(to, this.table, set));
    const listing = this.inside(() => new ListingSocket(NETLINK_NETFILTER));
    try {
      await listing.list(request, reset, ({ payload }) => {
        for (const element of parseElements(payload)) onElement(element);
      });
    } catch (error) {
      if (!isTwillError(error, 'not-found')) throw error;
      reset();
    } finally {
      listing.close();
    }
  }

  async chains(): Promise<readonly ListedChain[]> {
    const request = this.request('chains', (to) => writeChainsRequest(to, this.table));
    const found = await this.list(request, (payload) => parseChain(payload, this.table));
    return found.length === 0 ? [] : await this.withRules(found);
  }

  async chainsOf(names: readonly string[]): Promise<readonly ListedChain[]> {
    const chains: ListedChain[] = [];
    for (const name of names) {
      const answer = await this.ask(`chain ${name}`, (to) => writeChainRequest(to, this.table, name));
      const chain = answer && parseChain(answer, this.table);
      if (chain !== undefined) chains.push(...(await this.withRules([chain], name)));
    }
    return chains;
  }

  /** @param only the chain whose rules are listed; undefined for all */
  private async withRules(chains: readonly NamedChain[], only?: string): Promise<ListedChain[]> {
    const rules = new Map(chains.map(({ name }) => [name, [] as Buffer[]]));
    const request = this.request('rules', (to) => writeRulesRequest(to, this.table, only));
    // The bytes are a view of a receive buffer.
    const found = await this.list(request, (payload) => {
      const rule = parseRule(payload, this.table);
      return rule && rules.has(rule.chain) ? { ...rule, bytes: Buffer.from(rule.bytes) } : undefined;
    });
    for (const { chain, bytes } of found) rules.get(chain)!.push(bytes);
    return chains.map((chain) => ({ ...chain, rules: rules.get(chain.name)! }));
  }

  listen(onSet: (set: string | undefined) => void, onLost: () => void): () => void {
    const events = this.inside(
      () =>
        new EventSocket({
          protocol: NETLINK_NETFILTER,
          groups: [NFNLGRP_NFTABLES],
          filter: rulesOfOthers(this.family.af, this.socket.port),
          onEvent: (message) => {
            const { table, set } = parseNotice(message);
            if (table === this.name) onSet(set);
          },
          onLost,
        }),
    );
    return () => events.close();
  }

  close(): void {
    this.socket.close();
  }

  /** What is opened works in the table's namespace from then on. */
  private inside<T extends object>(open: () => T extends Promise<unknown> ? never : T): T {
    return this.netns === undefined ? open() : inNetns(`/run/netns/${this.netns}`, open);
  }

  private request(what: string, write: Change['write']): Change {
    return { what: `list ${what} of nftables table ${this.name}`, write };
  }

  /** @returns the kernel's answer; undefined where there is no such thing */
  private async ask(what: string, write: Change['write']): Promise<Buffer | undefined> {
    try {
      return (await this.socket.ask(this.request(what, write))).payload;
    } catch (error) {
      if (isTwillError(error, 'not-found')) return undefined;
      throw error;
    }
  }

  /** Where there is no table, there is nothing in it. */
  private async list<T>(request: Change, read: (payload: Buffer) => T | undefined): Promise<T[]> {
    try {
      return await this.socket.list({ request, read: ({ payload }) => read(payload) });
    } catch (error) {
      if (!isTwillError(error, 'not-found')) throw error;
      return [];
    }
  }
}

/** @param netns name of a network namespace; the process's own when it is not given */
export function openNftTable(family: Family, name: string, netns?: string): NftTable {
  return new KernelTable(family, name, netns);
}
