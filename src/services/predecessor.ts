import { existsSync, readFileSync } from 'node:fs';
import { kernelFamilies } from '../kernel/ipv6.ts';
import { listAddresses } from '../kernel/netlink/addresses.ts';
import { deleteLink, findLink } from '../kernel/netlink/links.ts';
import { RtSocket } from '../kernel/netlink/socket.ts';
import { removeNftTable } from '../kernel/nft.ts';
import { mayStand } from '../kernel/nft-tables.ts';
import { runChecked } from '../kernel/process.ts';
import { tryParseAddress } from '../model/address.ts';
import { describeError, isTwillError } from '../model/error.ts';
import { deletion, IPVS_DEVICE, ipvsSets, NFT_TABLE, virtualServices } from './plan/predecessor.ts';

/** What became of what a kube-proxy in another mode had left. */
export interface Leftovers {
  readonly removed: string[];
  /** What could not be removed, and why. */
  readonly left: string[];
  /** Whether trying again may help. */
  again: boolean;
}

const isPassing = (error: unknown): boolean => isTwillError(error, 'timeout', 'unavailable');

function leave(found: Leftovers, what: string, error: unknown): void {
  found.left.push(`${what}: ${describeError(error)}`);
  if (isPassing(error)) found.again = true;
}

async function removeTables(found: Leftovers): Promise<void> {
  for (const family of kernelFamilies()) {
    if (!(await mayStand(family, NFT_TABLE))) continue;
    const name = `nftables table ${family.nft} ${NFT_TABLE}`;
    try {
      if (await removeNftTable(family, NFT_TABLE)) found.removed.push(name);
    } catch (error) {
      // Without the program, or the kernel's part of it, there is nothing that it could have made.
      if (!isTwillError(error, 'missing-program')) leave(found, name, error);
    }
  }
}

/**
 * Virtual services at the device's addresses are kube-proxy's. Others may be somebody else's: they are named, as are all
 * of them where the program that deletes them is not installed.
 * @returns whether one of kube-proxy's may go a moment later
 */
async function removeVirtualServices(own: ReadonlySet<string>, found: Leftovers): Promise<boolean> {
  const table = '/proc/net/ip_vs';
  if (!existsSync(table)) return false;
  let passing = false;
  for (const service of virtualServices(readFileSync(table, 'utf8'))) {
    const name = `IPVS service ${service.protocol} ${service.address} port ${service.port}`;
    if (!own.has(tryParseAddress(service.address)?.text ?? '')) {
      found.left.push(`${name}: its address is not one of ${IPVS_DEVICE}`);
      continue;
    }
    try {
      await runChecked('ipvsadm', deletion(service));
      found.removed.push(name);
    } catch (error) {
      leave(found, name, error);
      passing ||= isPassing(error);
    }
  }
  return passing;
}

async function removeIpvs(found: Leftovers): Promise<void> {
  let socket: RtSocket | undefined;
  try {
    socket = new RtSocket();
    const device = await findLink(socket, IPVS_DEVICE);
    if (device === undefined) return;
    const addresses = (await listAddresses(socket)).filter(({ index }) => index === device.index);
    const own = new Set(addresses.map(({ address }) => address.text));
    // By the device's addresses the next look knows which services are kube-proxy's.
    if (await removeVirtualServices(own, found)) return;
    await socket.request(deleteLink(device.index, IPVS_DEVICE));
    found.removed.push(`device ${IPVS_DEVICE}`);
  } catch (error) {
    leave(found, `device ${IPVS_DEVICE}`, error);
  } finally {
    socket?.close();
  }
}

/** Sets that rules still use cannot be destroyed: those rules are in the chains that go first. */
async function removeSets(found: Leftovers): Promise<void> {
  let names: string;
  try {
    names = await runChecked('ipset', ['list', '-n']);
  } catch (error) {
    // Not installed, or not in this kernel: kube-proxy would have had none either.
    if (isTwillError(error, 'permission', 'timeout', 'unavailable')) leave(found, 'sets of ipset', error);
    return;
  }
  for (const name of ipvsSets(names)) {
    try {
      await runChecked('ipset', ['destroy', name]);
      found.removed.push(`set ${name}`);
    } catch (error) {
      leave(found, `set ${name}`, error);
    }
  }
}

/**
 * Removes what a kube-proxy in mode nftables or ipvs has left in this network namespace; its iptables chains are taken
 * over. To be called while our own rules stand, or none are wanted: connections that its rules have sent on go on, new
 * ones are sent on by ours from one packet to the next. Doing it twice is fine.
 */
export async function removeLeftovers(): Promise<Leftovers> {
  const found: Leftovers = { removed: [], left: [], again: false };
  await removeTables(found);
  await removeIpvs(found);
  await removeSets(found);
  return found;
}
