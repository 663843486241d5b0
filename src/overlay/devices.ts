import { KernelRefusal } from '../kernel/errno.ts';
import { addAddress, deleteAddress, type InterfaceAddress } from '../kernel/netlink/addresses.ts';
import {
  deleteLink,
  findLink,
  type Link,
  type LinkSettings,
  listLinks,
  setLink,
  withoutLinkLocal,
} from '../kernel/netlink/links.ts';
import type { RtSocket } from '../kernel/netlink/socket.ts';
import { changeVxlan, createVxlan } from '../kernel/netlink/vxlan.ts';
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

/** Who keeps a VXLAN device from its UDP port, and what to do. */
async function portHolder(socket: RtSocket, { name, port, family }: VxlanPlan): Promise<string> {
  const others = (await listLinks(socket)).filter(
    (link) => link.name !== name && link.up && link.vxlan?.port === port,
  );
  const [other] = others.filter(({ vxlan }) => vxlan?.local === undefined || vxlan.local.family === family);
  return other === undefined
    ? `a program listens on UDP port ${port} ('ss -lunp sport = :${port}' shows which): stop it`
    : `${other.name}, a VXLAN device that does not share it, has UDP port ${port}: remove that device`;
}

/** Changes the device; to be up it needs its UDP port. @throws TwillError `conflict` naming who has that */
async function change(
  socket: RtSocket,
  index: number,
  settings: LinkSettings,
  plan: VxlanPlan,
): Promise<void> {
  try {
    await socket.request(setLink(index, settings, plan.name));
  } catch (cause) {
    if (!(cause instanceof KernelRefusal) || cause.errno !== 'EADDRINUSE') throw cause;
    const holder = await portHolder(socket, plan);
    throw new TwillError('conflict', `cannot set ${plan.name} up: ${holder}, or change Backend.Port`, cause);
  }
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
  const link = await findLink(socket, name);
  if (link === undefined) throw new TwillError('conflict', `${name} vanished while it was being made`);
  await socket.request(setLink(link.index, withoutLinkLocal(mtu), name));
  await change(socket, link.index, { up: true }, plan);
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
  if (reasons.length > 0) await change(socket, link.index, settings, plan);
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

/** Where /proc/sys cannot be written, the device does without this. */
function trySysctl(setting: string, value: string, log: Log): void {
  try {
    writeSysctl(setting, value);
  } catch (error) {
    log.debug({ setting, error: describeError(error) }, 'cannot change a setting of the VXLAN device');
  }
}

/** Router advertisements have no place on the overlay. */
function refuseAdvertisements(device: string, log: Log): void {
  const setting = `net/ipv6/conf/${device}/accept_ra`;
  if (readSysctl(setting) !== undefined) trySysctl(setting, '0', log);
}

/**
 * A node may send through the tunnel what we send to it directly: from there we are behind a router, or its configuration
 * is of before. With rp_filter 1 the kernel drops what answers leave another way than it came; 2 asks for any way.
 */
function takeFromElsewhere({ name, family, direct }: VxlanPlan, log: Log): void {
  if (!direct || family === ipv6) return;
  const settingOf = (device: string): string => `net/ipv4/conf/${device}/rp_filter`;
  const filters = ['all', name].map((device) => Number(readSysctl(settingOf(device))));
  // The kernel takes the greater of the two.
  if (Math.max(...filters) === 1) trySysctl(settingOf(name), '2', log);
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
  takeFromElsewhere(plan, log);
  if (repairs.length > 0) log.info({ device: plan.name, repairs }, 'set up the VXLAN device');
  return { index: device.index, repairs };
}
