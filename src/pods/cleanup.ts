import { deleteLink, type Link } from '../kernel/netlink/links.ts';
import type { RtSocket } from '../kernel/netlink/socket.ts';
import { nftTableRemovals } from '../kernel/nft.ts';
import { isTwillError } from '../model/error.ts';
import type { Removal } from '../model/removal.ts';
import { findHostPortChains, findHostPortTables } from './host-port-removals.ts';
import { aliasPrefix } from './plan/alias.ts';
import { spoofTable } from './plan/spoof.ts';

const isOurs = ({ alias }: Link): boolean => alias?.startsWith(aliasPrefix) === true;

/** The host-side devices of pods that are attached: ours by their alias, others as ports of the pods' bridge. */
export function attachedPods(links: readonly Link[], bridge: string): Link[] {
  const index = links.find(({ name }) => name === bridge)?.index;
  return links.filter(
    (link) => link.kind === 'veth' && (isOurs(link) || (index !== undefined && link.master === index)),
  );
}

function deviceRemoval(socket: RtSocket, link: Link, what: string): Removal {
  return {
    what: `${what} ${link.name}: removed`,
    apply: async () => {
      try {
        await socket.request(deleteLink(link.index, link.name));
      } catch (error) {
        if (!isTwillError(error, 'not-found')) throw error; // it went with another
      }
    },
  };
}

/** The devices of pods, and the bridge unless somebody else has a port in it. */
export function podDevices(socket: RtSocket, links: readonly Link[], bridge: string): Removal[] {
  const own = links.filter((link) => isOurs(link) && (link.kind === 'veth' || link.kind === 'ifb'));
  const found = links.find(({ name, kind }) => name === bridge && kind === 'bridge');
  const removals = own.map((link) => deviceRemoval(socket, link, 'device of a pod'));
  if (found === undefined) return removals;
  const others = links.filter((link) => link.master === found.index && !own.includes(link));
  if (others.length > 0)
    return [
      ...removals,
      { what: `bridge ${bridge}: left, for ${others.map(({ name }) => name).join(', ')}`, apply: () => {} },
    ];
  return [...removals, { ...deviceRemoval(socket, found, 'bridge'), flannels: `bridge ${bridge}` }];
}

/** Rules for host ports, and against forged MACs. The portmap plugin's shared chains go when nothing is left in them. */
export async function findPodRules(): Promise<Removal[]> {
  const removals = [...(await findHostPortChains()), ...(await findHostPortTables())];
  return [...removals, ...(await nftTableRemovals({ nft: 'bridge' }, spoofTable))];
}
