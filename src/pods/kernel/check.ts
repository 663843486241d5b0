import { listAddresses } from '../../kernel/netlink/addresses.ts';
import { type Link, listLinks } from '../../kernel/netlink/links.ts';
import { routesOf } from '../../kernel/netlink/routes.ts';
import { RtSocket } from '../../kernel/netlink/socket.ts';
import { inNetns, type Netns } from '../../kernel/netns.ts';
import { parsePrefix } from '../../model/address.ts';
import { TwillError } from '../../model/error.ts';
import { portProblem } from '../plan/bridge.ts';
import type { PodRecord } from '../plan/pod.ts';

/** What of a pod must be as it was made: later plugins of a chain may have changed the rest. */
export interface Expected {
  readonly addresses: readonly string[];
  /** Destinations in CIDR notation. */
  readonly routes: readonly string[];
}

/** @throws TwillError `kernel` naming what the pod has lost */
async function checkSocket(pod: RtSocket, record: PodRecord, expected: Expected): Promise<Link> {
  const link = (await listLinks(pod)).find(({ name }) => name === record.ifname);
  if (link === undefined) throw new TwillError('kernel', `the pod has no interface ${record.ifname}`);
  if (record.up === false) return link;
  if (!link.up) throw new TwillError('kernel', `${record.ifname} of the pod is down`);
  const addresses = await listAddresses(pod);
  const present = new Set(
    addresses
      .filter(({ index }) => index === link.index)
      .map(({ address, length }) => `${address.text}/${length}`),
  );
  const lost = expected.addresses.find((address) => !present.has(address));
  if (lost !== undefined) throw new TwillError('kernel', `${record.ifname} of the pod has lost ${lost}`);
  for (const destination of expected.routes.map(parsePrefix)) {
    // The sbr plugin moves routes to tables of their own.
    const routes = await pod.list(routesOf(destination.family, true));
    if (!routes.some((route) => route.destination.text === destination.text))
      throw new TwillError('kernel', `the pod has lost its route to ${destination.text}`);
  }
  return link;
}

async function checkOutside(host: RtSocket, record: PodRecord): Promise<void> {
  const links = await listLinks(host);
  const bridge = links.find(({ name }) => name === record.bridge);
  if (bridge === undefined || !bridge.up)
    throw new TwillError('kernel', `bridge ${record.bridge} is ${bridge === undefined ? 'gone' : 'down'}`);
  const port = links.find(({ name }) => name === record.hostVeth);
  if (port === undefined) throw new TwillError('kernel', `${record.hostVeth} is gone`);
  const problem =
    port.master === bridge.index ? portProblem(port, record) : `is not a port of ${record.bridge}`;
  if (problem !== undefined) throw new TwillError('kernel', `${record.hostVeth} ${problem}`);
}

/**
 * Looks whether what is inside the pod's namespace is as ADD left it.
 * @throws TwillError `kernel` naming what is missing
 */
export async function checkInside(record: PodRecord, netns: Netns, expected: Expected): Promise<void> {
  const pod = inNetns(netns, () => new RtSocket());
  try {
    await checkSocket(pod, record, expected);
  } finally {
    pod.close();
  }
}

/**
 * Looks whether a pod's interface, addresses and routes, its host-side veth and the bridge are as ADD left them.
 * @throws TwillError `kernel` naming what is missing
 */
export async function checkPod(
  host: RtSocket,
  record: PodRecord,
  netns: Netns,
  expected: Expected,
): Promise<void> {
  await checkInside(record, netns, expected);
  await checkOutside(host, record);
}
