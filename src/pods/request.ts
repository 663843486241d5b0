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

/** The addresses that a call asks for, by its configuration or in CNI_ARGS. */
export function requestedAddresses({ args, config }: CniRequest): RequestedAddress[] {
  const asked = config.ipsInArgs ? '' : (args.IP ?? '');
  const fromArgs = asked === '' ? [] : asked.split(',');
  return [
    ...config.requestedIps.map((text) => ({ text, from: 'network configuration: ips' })),
    ...fromArgs.map((text) => ({ text, from: 'CNI_ARGS: IP' })),
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

/** @throws TwillError `invalid` when the configuration means another network's subnet than the agent's */
export function refuseOtherSubnetFile({ subnetFile }: NetConf, own: string): void {
  if (subnetFile !== undefined && subnetFile !== own)
    refuse('subnetFile', subnetFile, `the agent of this node writes ${own} (--subnet-file)`);
}
