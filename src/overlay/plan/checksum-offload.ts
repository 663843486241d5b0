/** `--tx-checksum-offload`. */
export const checksumOffloads = ['auto', 'on', 'off'] as const;
export type ChecksumOffload = (typeof checksumOffloads)[number];

/**
 * Long-term kernels that got "netfilter: nat: never update the UDP checksum when it's 0" (Linux 5.7, ea64d8d6c675), and
 * from which release on.
 */
const repaired: Readonly<Record<string, number>> = { '4.14': 181, '4.19': 123, '5.4': 41, '5.6': 13 };

/**
 * True for kernels that spoil the checksum of VXLAN packets whose content was masqueraded, where the VXLAN device leaves
 * checksums to the hardware: connections then take 63 seconds, or fail (k/k#88986, flannel#1282). Distributions' kernels
 * that were repaired under an old number count as spoiled.
 * @param release as `uname -r` has it
 */
export function spoilsChecksums(release: string): boolean {
  const [, major, minor, patch] = /^(\d+)\.(\d+)(?:\.(\d+))?/.exec(release) ?? [];
  if (major === undefined || minor === undefined) return false;
  if (Number(major) > 5 || (Number(major) === 5 && Number(minor) >= 7)) return false;
  return Number(patch ?? 0) < (repaired[`${major}.${minor}`] ?? Number.POSITIVE_INFINITY);
}

/** What the VXLAN device's transmit checksum offload has to be; undefined to leave it as it is. */
export function wantedChecksumOffload(setting: ChecksumOffload, release: string): boolean | undefined {
  if (setting === 'auto') return spoilsChecksums(release) ? false : undefined;
  return setting === 'on';
}
