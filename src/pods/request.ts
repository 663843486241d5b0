import { realpathSync } from 'node:fs';
import { resolve } from 'node:path';
import { TwillError } from '../model/error.ts';
import { readRegularFile } from '../process/regular-file.ts';
import type { CniRequest } from './cni/call.ts';
import type { NetConf } from './cni/netconf.ts';
import { refuse } from './cni/refusals.ts';
import { parseDeviceMac } from './cni/schema.ts';
import type { RequestedAddress } from './ipam.ts';
import { type Dns, parseResolvConf } from './plan/dns.ts';

/** flannel's own subnet file, where the agent is told of no other. */
export const usualSubnetFile = '/run/flannel/subnet.env';

const isIpv6 = (text: string): boolean => text.includes(':');

/**
 * The addresses that a call asks for, by its configuration or in CNI_ARGS. Those are the older form: they are not looked at
 * where `args` ask for addresses (CNI conventions, "args"), and add no second one of a family to the capability's.
 */
export function requestedAddresses({ args, config }: CniRequest): RequestedAddress[] {
  const { runtime, args: inArgs } = config.requestedIps;
  const named = [...runtime, ...inArgs];
  const older = inArgs.length > 0 ? [] : (args.IP ?? '').split(',').filter((text) => text !== '');
  return [
    ...named.map((text) => ({ text, from: 'network configuration: ips' })),
    ...older
      .filter((text) => !named.some((other) => isIpv6(other) === isIpv6(text)))
      .map((text) => ({ text, from: 'CNI_ARGS: IP' })),
  ];
}

/** The MAC that a call asks for: the capability `mac` comes before `args`, and those before CNI_ARGS. */
export function requestedMac({ args, config }: CniRequest): string | undefined {
  if (config.mac !== undefined) return parseDeviceMac(config.mac);
  const { MAC: text = '' } = args;
  if (text === '') return undefined;
  try {
    return parseDeviceMac(text);
  } catch (cause) {
    throw new TwillError('invalid', `CNI_ARGS: MAC: ${text} is not the MAC address of a device`, cause);
  }
}

/** The resolver's settings for the result; those of the configuration come before host-local's `resolvConf`. */
export function requestedDns({ dns, resolvConf }: NetConf): Dns | undefined {
  if (dns !== undefined || resolvConf === undefined) return dns;
  try {
    return parseResolvConf(readRegularFile(resolvConf));
  } catch (cause) {
    const why = (cause as NodeJS.ErrnoException).code ?? String(cause);
    return refuse('ipam.resolvConf', resolvConf, `the agent cannot read that file (${why})`);
  }
}

/** Whether two paths lead to one place: /var/run is /run on most hosts. */
function isSamePath(a: string, b: string): boolean {
  if (resolve(a) === resolve(b)) return true;
  try {
    return realpathSync(a) === realpathSync(b);
  } catch {
    return false;
  }
}

/** @throws TwillError `invalid` when the configuration means another network's subnet than the agent's */
export function refuseOtherSubnetFile({ subnetFile }: NetConf, own: string): void {
  if (subnetFile !== undefined && !isSamePath(subnetFile, own))
    refuse('subnetFile', subnetFile, `the agent of this node writes ${own} (--subnet-file)`);
}
