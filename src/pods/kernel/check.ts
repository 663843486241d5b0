import { listAddresses } from '../../kernel/netlink/addresses.ts';
import { findLink, listLinks } from '../../kernel/netlink/links.ts';
import { routesOf } from '../../kernel/netlink/routes.ts';
import { RtSocket } from '../../kernel/netlink/socket.ts';
import { inNetns, type Netns } from '../../kernel/netns.ts';
import { families, parsePrefix } from '../../model/address.ts';
import { TwillError } from '../../model/error.ts';
import { type Expected, insideProblem, outsideProblems, type Standing } from '../plan/check.ts';
import type { PodRecord } from '../plan/pod.ts';

async function readInside(pod: RtSocket, ifname: string, wanted: Expected): Promise<Standing> {
  const device = await findLink(pod, ifname);
  const addresses = (await listAddresses(pod)).filter(({ index }) => index === device?.index);
  const used = new Set(wanted.routes.map((destination) => parsePrefix(destination).family));
  const listed = families
    .filter((family) => used.has(family))
    // The sbr plugin moves routes to tables of their own.
    .map((family) => pod.list(routesOf(family, true)));
  return {
    device,
    addresses: addresses.map(({ address, length }) => `${address.text}/${length}`),
    routes: (await Promise.all(listed)).flat().map(({ destination }) => destination.text),
  };
}

/**
 * Looks whether what is inside the pod's namespace is as ADD left it.
 * @throws TwillError `kernel` naming what is missing
 */
export async function checkInside(record: PodRecord, netns: Netns, wanted: Expected): Promise<void> {
  // As the kernel writes them.
  const expected = { ...wanted, routes: wanted.routes.map((destination) => parsePrefix(destination).text) };
  const pod = inNetns(netns, () => new RtSocket());
  try {
    const problem = insideProblem(record, expected, await readInside(pod, record.ifname, expected));
    if (problem !== undefined) throw new TwillError('kernel', problem);
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
  const links = new Map((await listLinks(host)).map((link) => [link.name, link]));
  const problems = outsideProblems(record, links);
  if (problems.length > 0)
    throw new TwillError('kernel', `the pod is not as ADD left it: ${problems.join(', ')}`);
}
