import { everyIptables, type Iptables } from '../kernel/iptables.ts';
import { listOrAsk } from '../kernel/iptables-reading.ts';
import { deleteLink, type Link } from '../kernel/netlink/links.ts';
import type { RtSocket } from '../kernel/netlink/socket.ts';
import { nftTableRemovals } from '../kernel/nft.ts';
import { isTwillError } from '../model/error.ts';
import type { Removal } from '../model/removal.ts';
import { aliasPrefix } from './plan/alias.ts';
import { concernedChains, hostPortRemoval, isOwn, requiredRules } from './plan/hostports.ts';
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
  return [...removals, deviceRemoval(socket, found, 'bridge')];
}

/** Table nat as iptables-save prints it; of one that cannot be printed, what is of host ports. */
async function natTable(iptables: Iptables): Promise<string> {
  try {
    return await iptables.save('nat');
  } catch (error) {
    if (!isTwillError(error, 'conflict')) throw error;
  }
  const names = ((await iptables.chains('nat')) ?? []).filter(
    (name) => isOwn(name) || concernedChains.includes(name),
  );
  const chains = await Promise.all(
    names.map(async (name) => {
      const lines = (await listOrAsk(iptables, 'nat', name, requiredRules)) ?? [];
      // One that begins otherwise could not be printed: there is more in it, which is not ours.
      const hidden = lines[0]?.startsWith('-A ') !== false ? [`-A ${name} ?`] : [];
      return [`:${name} - [0:0]`, ...lines, ...hidden];
    }),
  );
  return chains.flat().join('\n');
}

/** Rules for host ports, and against forged MACs. The portmap plugin's shared chains go when nothing is left in them. */
export async function findPodRules(): Promise<Removal[]> {
  const removals: Removal[] = [];
  for (const iptables of everyIptables()) {
    try {
      const document = hostPortRemoval(await natTable(iptables));
      if (document === undefined) continue;
      removals.push({
        what: `${iptables.family.iptables}-${iptables.variant}: chains of host ports removed from table nat`,
        apply: () => iptables.restore(document),
      });
    } catch (error) {
      if (!isTwillError(error, 'missing-program', 'kernel')) throw error;
    }
  }
  return [...removals, ...(await nftTableRemovals({ nft: 'bridge' }, spoofTable))];
}
