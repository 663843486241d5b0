import { addAddress, deleteAddress, type InterfaceAddress } from '../kernel/netlink/addresses.ts';
import {
  changeVxlan,
  createVxlan,
  deleteLink,
  type Link,
  listLinks,
  setLink,
  withoutLinkLocal,
} from '../kernel/netlink/links.ts';
import type { RtSocket } from '../kernel/netlink/socket.ts';
import { readSysctl, writeSysctl } from '../kernel/sysctl.ts';
import { ipv6 } from '../model/address.ts';
import { describeError, isTwillError, TwillError } from '../model/error.ts';
import type { Log } from '../process/log.ts';
import {
  deviceRepairs,
  foreignAddresses,
  hasAddress,
  type VxlanPlan,
  vxlanChanges,
  whyRecreate,
} from './plan/device.ts';

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
    const other = (await listLinks(socket)).find(({ vxlan }) => vxlan?.vni === vni && vxlan.port === port);
    throw new TwillError(
      'conflict',
      `cannot create ${name}: ${other?.name ?? 'another device'} has VNI ${vni} on UDP port ${port}; remove that device, or change Backend.VNI or Backend.Port`,
      cause,
    );
  }
  const link = (await listLinks(socket)).find((candidate) => candidate.name === name);
  if (link === undefined) throw new TwillError('conflict', `${name} vanished while it was being made`);
  await socket.request(setLink(link.index, withoutLinkLocal(mtu), name));
  await socket.request(setLink(link.index, { up: true }, name));
  return link.index;
}

/**
 * Changes what can be changed in place: routes and entries stay, and with them the traffic.
 * @returns what was changed; undefined where the kernel cannot
 */
async function changeInPlace(socket: RtSocket, plan: VxlanPlan, link: Link): Promise<string[] | undefined> {
  const { parameters, reasons } = vxlanChanges(plan, link);
  if (reasons.length === 0) return [];
  try {
    await socket.request(changeVxlan(link.index, parameters, plan.name));
  } catch (error) {
    if (!isTwillError(error, 'kernel')) throw error;
    return undefined;
  }
  // Older kernels take no notice of some.
  const now = (await listLinks(socket)).find(({ index }) => index === link.index);
  return now !== undefined && vxlanChanges(plan, now).reasons.length === 0 ? reasons : undefined;
}

async function ensureLink(socket: RtSocket, plan: VxlanPlan, link: Link | undefined): Promise<EnsuredDevice> {
  if (link === undefined) return { index: await create(socket, plan), repairs: ['it was missing'] };
  const why = whyRecreate(plan, link);
  const changed = why === undefined ? await changeInPlace(socket, plan, link) : undefined;
  if (changed === undefined) {
    await socket.request(deleteLink(link.index, plan.name));
    const reason = why ?? vxlanChanges(plan, link).reasons.join(', ');
    return { index: await create(socket, plan), repairs: [`made anew: ${reason}`] };
  }
  const { settings, reasons } = deviceRepairs(plan, link);
  if (reasons.length > 0) await socket.request(setLink(link.index, settings, plan.name));
  return { index: link.index, repairs: [...changed, ...reasons] };
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

/**
 * A node may have IPv6 off for what is made new (`conf/default/disable_ipv6`): the device takes no address then.
 * @throws TwillError `permission` naming the setting
 */
function allowFamily({ name, family }: VxlanPlan): void {
  const setting = `net/ipv6/conf/${name}/disable_ipv6`;
  if (family === ipv6 && readSysctl(setting) === '1') writeSysctl(setting, '0');
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
  allowFamily(plan);
  const present = host.addresses.filter(({ index }) => index === device.index);
  const repairs = [...device.repairs, ...(await ensureAddresses(socket, plan, device.index, present))];
  refuseAdvertisements(plan.name, log);
  if (repairs.length > 0) log.info({ device: plan.name, repairs }, 'set up the VXLAN device');
  return { index: device.index, repairs };
}
