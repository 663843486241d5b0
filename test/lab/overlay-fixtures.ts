// Leases of a small network as a node's overlay plans them, and entries in words.
import { type Lease, parseLease } from '../../src/leases/plan/lease.ts';
import { type Backend, parseNetworkConfig } from '../../src/leases/plan/network-config.ts';
import { ipv4, parseAddress, parsePrefix } from '../../src/model/address.ts';
import { diffEntries } from '../../src/overlay/plan/diff.ts';
import type { EntryMap, OverlayEntry } from '../../src/overlay/plan/entries.ts';
import { makeGround } from '../../src/overlay/plan/ground.ts';
import type { FamilyPath } from '../../src/overlay/plan/peer.ts';
import { PeerPlanner } from '../../src/overlay/plan/planner.ts';

export const backendOf = (more: object): Backend =>
  parseNetworkConfig(JSON.stringify({ Network: '10.244.0.0/16', Backend: { Type: 'vxlan', ...more } }))
    .backend;
export const path: FamilyPath = {
  family: ipv4,
  vxlan: 5,
  nexthops: true,
  underlay: 2,
  networks: [parsePrefix('192.0.2.0/24')],
  onLink: ({ text }) => (text.startsWith('192.0.2.') ? 2 : undefined),
  reach: 0,
};
export const lease = (
  third: number,
  ip = `192.0.2.${third}`,
  mac = `02:00:00:00:00:0${third}`,
  type = 'vxlan',
): Lease =>
  parseLease(
    `10.244.${third}.0-24`,
    `{"PublicIP":"${ip}","BackendType":"${type}","BackendData":{"VtepMAC":"${mac}"}}`,
  );
export const own = lease(9);
export const ground = makeGround(
  [parsePrefix('10.244.0.0/16')],
  {
    links: [{ index: 2, name: 'eth0' }],
    addresses: [
      { index: 2, address: parseAddress('192.0.2.9'), length: 24 },
      { index: 2, address: parseAddress('10.244.200.9'), length: 24 },
    ],
    gateways: [parseAddress('10.244.201.1')],
    servers: [parseAddress('10.244.202.1')],
  },
  () => false,
);
export const mapOf = (leases: readonly Lease[]): Map<string, Lease> =>
  new Map(leases.map((one) => [one.name, one]));
export const desired = (leases: Lease[], backend = backendOf({})) => {
  const planner = new PeerPlanner({ own, paths: [path], backend, ground });
  const entries = planner.desired(mapOf([own, ...leases]));
  return { entries, skipped: planner.skipped() };
};
export const words = (entry: OverlayEntry): string =>
  entry.kind === 'route'
    ? `${entry.key} via ${entry.gateway?.text} dev ${entry.device}${entry.onlink ? ' onlink' : ''}${entry.nexthop === undefined ? '' : ` nhid ${entry.nexthop}`}`
    : entry.kind === 'nexthop'
      ? `${entry.key} via ${entry.gateway.text} dev ${entry.device}`
      : entry.kind === 'neighbour'
        ? `${entry.key} ${entry.mac}`
        : `f ${entry.mac} ${entry.destination.text}`;
export const changes = (from: EntryMap, to: EntryMap): string[] =>
  diffEntries(to, from).map(({ action, entry }) => `${action} ${words(entry)}`);
