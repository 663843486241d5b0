import { addAddress, deleteAddress, listAddresses } from '../../kernel/netlink/addresses.ts';
import { listLinks } from '../../kernel/netlink/links.ts';
import type { RtSocket } from '../../kernel/netlink/socket.ts';
import { isTwillError } from '../../model/error.ts';
import type { PodNetwork } from '../../model/pod-network.ts';
import type { Log } from '../../process/log.ts';
import { strayAddresses } from '../plan/gateways.ts';
import type { PodRecord } from '../plan/pod.ts';

/**
 * Leaves the pods' bridge only its gateway addresses. One with a port that is no pod's (an uplink) is somebody's own, and
 * its addresses are his.
 * @returns why no pod can be added now; undefined when nothing is in the way
 */
export async function cleanBridge(
  socket: RtSocket,
  name: string,
  network: PodNetwork,
  records: readonly PodRecord[],
  log: Log,
): Promise<string | undefined> {
  const links = await listLinks(socket);
  const index = links.find((link) => link.name === name)?.index;
  if (index === undefined || links.some(({ master, kind }) => master === index && kind !== 'veth'))
    return undefined;
  const present = (await listAddresses(socket)).filter((entry) => entry.index === index);
  const { remove, refusal } = strayAddresses(present, network, records);
  if (remove.length > 0) {
    const addresses = remove.map(({ address, length }) => `${address.text}/${length}`);
    log.warn({ bridge: name, addresses }, 'removing addresses that are not the gateway of any pod');
    const errors = await socket.batch([
      ...remove.map((entry) => deleteAddress({ index, ...entry })),
      // With a network's first address IPv4 takes its later ones away: the gateway may have been one of those.
      ...network.families.map(({ gateway, subnet }) =>
        addAddress({ index, address: gateway, length: subnet.length }),
      ),
    ]);
    const failed = errors.find((error) => error !== undefined && !isTwillError(error, 'not-found', 'exists'));
    if (failed !== undefined) throw failed;
  }
  return refusal === undefined ? undefined : `bridge ${name}: ${refusal}`;
}
