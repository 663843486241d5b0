import { existsSync } from 'node:fs';
import { type Family, families, ipv6 } from '../model/address.ts';

/**
 * Whether this kernel has IPv6: not with `ipv6.disable=1` or without the module. It refuses whatever speaks of AF_INET6
 * then, with EAFNOSUPPORT. (Interfaces and namespaces in which it is only switched off do not.)
 */
export function hasIpv6(): boolean {
  return existsSync('/proc/sys/net/ipv6/conf');
}

/** The families that may be spoken of to this kernel. */
export function kernelFamilies(): readonly Family[] {
  return hasIpv6() ? families : families.filter((family) => family !== ipv6);
}
