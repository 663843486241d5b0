import { addAddress, deleteAddress, type InterfaceAddress } from '../kernel/netlink/addresses.ts';
import {
  createVxlan,
  deleteLink,
  type Link,
  listLinks,
  setLink,
  withoutLinkLocal,
} from '../kernel/netlink/links.ts';
import type { RtSocket } from '../kernel/netlink/socket.ts';
import { readSysctl, writeSysctl } from '../kernel/sysctl.ts';
import { describeError, isTwillError, TwillError } from '../model/error.ts';
import type { Log } from '../process/log.ts';
import { deviceRepairs, foreignAddresses, hasAddress, type VxlanPlan, whyRecreate } from './plan/device.ts';

/** A device that stands as planned. */
export interface EnsuredDevice {
  readonly index: number;
  /** What had to be done, each with its reason; empty when all was right. */
  readonly repairs: readonly string[];
}

async function create(socket: RtSocket, plan: VxlanPlan): Promise<number> {
  const { name, mac, mtu, vni, port, local, underlayIndex, learning, gbp } = plan;
  try {
    await socket.request(createVxlan({ name, mac, mtu }, { vni, port, local, underlayIndex, learning, gbp }));
  } catch (cause) {
    if (!isTwillError(cause, 'exists')) throw cause;
    throw new TwillError(
      'conflict',
      `cannot create ${name}: another device has VNI ${vni} on UDP port ${port}; remove it, or change Backend.VNI or Backend.Port`,
      cause,
    );
  }
  const link = (await listLinks(socket)).find((candidate) => candidate.name === name);
  if (link === undefined) throw new TwillError('conflict', `${name} vanished while it was being made`);
  await socket.request(setLink(link.index, withoutLinkLocal(mtu), name));
  await socket.request(setLink(link.index, { up: true }, name));
  return link.index;
}

async function ensureLink(socket: RtSocket, plan: VxlanPlan, link: Link | undefined): Promise<EnsuredDevice> {
  if (link === undefined) return { index: await create(socket, plan), repairs: ['it was missing'] };
  const why = whyRecreate(plan, link);
  if (why !== undefined) {
    await socket.request(deleteLink(link.index, plan.name));
    return { index: await create(socket, plan), repairs: [`made anew: ${why}`] };
  }
  const { settings, reasons } = deviceRepairs(plan, link);
  if (reasons.length > 0) await socket.request(setLink(link.index, settings, plan.name));
  return { index: link.index, repairs: reasons };
}

async function ensureAddresses(
  socket: RtSocket,
  plan: VxlanPlan,
  index: number,
  present: readonly InterfaceAddress[],
): Promise<string[]> {
  const repairs: string[] = [];
  if (!hasAddress(plan, present)) {
    await socket.request(addAddress({ index, address: plan.address, length: plan.family.bits }));
    repairs.push(`address ${plan.address.text} was missing`);
  }
  for (const { address, length } of foreignAddresses(plan, present)) {
    await socket.request(deleteAddress({ index, address, length }));
    repairs.push(`address ${address.text}/${length} does not belong`);
  }
  return repairs;
}

/** Router advertisements have no place on the overlay; where /proc/sys cannot be written, it does without this. */
function refuseAdvertisements(device: string, log: Log): void {
  const setting = `net/ipv6/conf/${device}/accept_ra`;
  try {
    if (readSysctl(setting) !== undefined) writeSysctl(setting, '0');
  } catch (error) {
    log.debug({ device, error: describeError(error) }, 'cannot turn router advertisements off');
  }
}

/**
 * Makes the VXLAN device equal to the plan, in place where the kernel allows it.
 * @throws TwillError `conflict` when another device has the same VNI and port; others by errno
 */
export async function ensureVxlan(
  socket: RtSocket,
  plan: VxlanPlan,
  host: { readonly links: readonly Link[]; readonly addresses: readonly InterfaceAddress[] },
  log: Log,
): Promise<EnsuredDevice> {
  const standing = host.links.find(({ name }) => name === plan.name);
  const device = await ensureLink(socket, plan, standing);
  const present = host.addresses.filter(({ index }) => index === device.index);
  const repairs = [...device.repairs, ...(await ensureAddresses(socket, plan, device.index, present))];
  refuseAdvertisements(plan.name, log);
  if (repairs.length > 0) log.info({ device: plan.name, repairs }, 'set up the VXLAN device');
  return { index: device.index, repairs };
}
