import type { NftTable } from '../../src/kernel/nft-table.ts';
import { ipv4 } from '../../src/model/address.ts';

/** A table that is empty and takes everything. */
export function emptyTable(change: Partial<NftTable> = {}): NftTable {
  return {
    family: ipv4,
    name: 'x',
    apply: async () => {},
    write: async () => 1,
    state: async () => 'active',
    sets: async () => new Set(),
    elements: async () => {},
    chains: async () => [],
    chainsOf: async () => [],
    listen: () => () => {},
    close: () => {},
    ...change,
  };
}
