import { listNftTable } from '../kernel/nft.ts';
import { peersTable, peerTableText, splitPeerTable } from '../masquerade/plan/peers.ts';
import { ipv4, ipv6 } from '../model/address.ts';
import { type EntryMap, endpointsOf } from '../overlay/plan/entries.ts';
import type { Difference } from './plan/difference.ts';
import type { AgentState } from './plan/state.ts';

/** What is not as it should be of the table that keeps strangers from the VXLAN port (`--vxlan-peers-only`). */
export async function peerTableDifferences(
  { settings, network }: AgentState,
  desired: EntryMap,
): Promise<Difference[]> {
  if (!settings.vxlanPeersOnly || network?.backend.type !== 'vxlan') return [];
  const endpoints = endpointsOf(desired);
  const of = (family: typeof ipv4) =>
    new Set(endpoints.filter((one) => one.family === family).map(({ text }) => text));
  const wanted = splitPeerTable(
    peerTableText({ port: network.backend.port, peers: { ipv4: of(ipv4), ipv6: of(ipv6) } }),
  );
  const object = `table ${peersTable.nft} ${peersTable.name}`;
  const base = { kind: 'VXLAN peers', object, show: `nft list ${object}` } as const;
  const text = await listNftTable(peersTable, peersTable.name);
  if (text === undefined)
    return [{ ...base, state: 'missing', detail: 'anybody can send to the VXLAN port' }];
  if (splitPeerTable(text).addresses === wanted.addresses) return [];
  return [{ ...base, state: 'wrong', detail: 'the addresses in its sets are not those of the nodes' }];
}
