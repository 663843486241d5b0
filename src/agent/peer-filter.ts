import type { NetworkConfig } from '../leases/plan/network-config.ts';
import { PeerFilter } from '../masquerade/peer-filter.ts';
import type { PeerTable } from '../masquerade/plan/peers.ts';
import { type Address, type Family, ipv4, ipv6 } from '../model/address.ts';
import type { OverlayPeers } from '../overlay/peers.ts';
import type { Log } from '../process/log.ts';
import type { AgentConfig } from './config.ts';

/** Who may send to the VXLAN port where others may not; undefined where there is none. */
function wantedPeers(network: NetworkConfig | undefined, peers: readonly Address[]): PeerTable | undefined {
  if (network?.backend.type !== 'vxlan') return undefined;
  const of = (wanted: Family): Set<string> =>
    new Set(peers.filter(({ family }) => family === wanted).map(({ text }) => text));
  return { port: network.backend.port, peers: { ipv4: of(ipv4), ipv6: of(ipv6) } };
}

/** Starts to keep strangers from the VXLAN port, or to take away what an earlier run left for that. */
export function startPeerFilter(
  { vxlanPeersOnly: enabled, rulesResyncMs: resyncMs }: AgentConfig,
  log: Log,
  peers: OverlayPeers,
  network: () => NetworkConfig | undefined,
): PeerFilter {
  const wanted = (): PeerTable | undefined => wantedPeers(network(), peers.endpoints());
  const filter = new PeerFilter({ log, enabled, resyncMs, wanted });
  peers.onChange = () => filter.changed('peers changed');
  filter.loop.trigger('start');
  return filter;
}
