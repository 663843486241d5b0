import type { RtSocket } from '../../kernel/netlink/socket.ts';
import { closeNetns } from '../../kernel/netns.ts';
import { TwillError } from '../../model/error.ts';
import { goField } from '../../model/go-json.ts';
import { unshaped } from '../kernel/bandwidth.ts';
import { checkPod } from '../kernel/check.ts';
import type { HostPorts } from '../kernel/hostports.ts';
import { openPodNamespace } from '../kernel/namespace.ts';
import type { SpoofGuard } from '../kernel/spoof.ts';
import type { PodRecord } from '../plan/pod.ts';
import type { CniRequest } from './call.ts';
import { previousResult } from './result.ts';
import { isObject } from './schema.ts';

function listed(entries: readonly unknown[], field: string): Set<unknown> {
  return new Set(entries.map((entry) => (isObject(entry) ? goField(entry, field) : undefined)));
}

/**
 * CHECK: looks whether an attachment is as ADD left it (CNI specification, section 2, "CHECK"). What a later plugin of
 * the chain took out of the result is not asked for.
 * @param record undefined when there is no such attachment
 * @throws TwillError `not-found` then, `invalid` without prevResult, `kernel` naming what is not as it should be
 */
export async function checkAttachment(
  request: CniRequest,
  record: PodRecord | undefined,
  node: { readonly socket: RtSocket; readonly hostPorts: HostPorts; readonly spoofGuard: SpoofGuard },
): Promise<void> {
  const { containerId, ifname, netns, config } = request;
  if (!isObject(config.prevResult))
    throw new TwillError('invalid', 'network configuration: CHECK needs the prevResult of ADD');
  if (record === undefined)
    throw new TwillError('not-found', `container ${containerId} has no ${ifname} in network ${config.name}`);
  const { ips, routes } = previousResult(config.prevResult);
  const [addresses, destinations] = [listed(ips, 'address'), listed(routes, 'dst')];
  const all = record.addresses.map(({ address }) => address);
  const known = all.filter((address) => addresses.has(address));
  // One that was found standing may have put more on its interface than ADD gave.
  const own = record.adopted === true && known.length > 0 ? known : all;
  const lost = own.find((address) => !addresses.has(address));
  if (lost !== undefined)
    throw new TwillError('kernel', `prevResult does not have ${lost}, which ADD gave ${containerId}`);
  const namespace = openPodNamespace(netns);
  try {
    await checkPod(node.socket, record, namespace, {
      addresses: own,
      routes: record.routes.filter((destination) => destinations.has(destination)),
    });
  } finally {
    closeNetns(namespace);
  }
  if ((await unshaped(node.socket, [record])).length > 0)
    throw new TwillError('kernel', `the traffic of ${containerId} is not shaped as it should be`);
  if (record.spoofCheck === true) await node.spoofGuard.check();
  if (record.portMappings.length > 0) await node.hostPorts.check();
}
