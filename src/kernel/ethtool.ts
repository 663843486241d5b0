import koffi from 'koffi';
import { kernelError } from './errno.ts';
import { lastErrno, libc } from './libc.ts';
import { AF_INET } from './netlink/constants.ts';

// include/uapi/linux/ethtool.h and sockios.h
const SIOCETHTOOL = 0x8946;
const ETHTOOL_GTXCSUM = 0x16;
const ETHTOOL_STXCSUM = 0x17;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0x80000;
/** Bytes of struct ifreq behind the pointer to the ethtool command. */
const IFREQ_REST = 16;

let requestType: ReturnType<typeof koffi.struct> | undefined;

/** struct ifreq with a pointer to a struct ethtool_value. */
function ifreq(): ReturnType<typeof koffi.struct> {
  requestType ??= koffi.struct('EthtoolRequest', {
    name: koffi.array('char', 16),
    data: 'void *',
    rest: koffi.array('uint8_t', IFREQ_REST),
  });
  return requestType;
}

function command(fd: number, device: string, number: number, data: number): number {
  const value = Buffer.alloc(8);
  value.writeUInt32LE(number, 0);
  value.writeUInt32LE(data, 4);
  const request = { name: device, data: value, rest: new Array<number>(IFREQ_REST).fill(0) };
  if (libc().ioctl(fd, SIOCETHTOOL, koffi.as(request, koffi.pointer(ifreq()))) !== 0)
    throw kernelError(`set the checksum offload of ${device}`, lastErrno());
  return value.readUInt32LE(4);
}

/**
 * Turns the transmit checksum offload of a device on or off (what `ethtool -K DEVICE tx on|off` does; a VXLAN device has
 * `tx-checksum-ip-generic` only), in the calling thread's network namespace. An ioctl: the kernels in question have no
 * ethtool over netlink.
 * @returns false when it was so already
 * @throws TwillError `not-found`, `permission`, `kernel`
 */
export function setTxChecksum(device: string, on: boolean): boolean {
  const fd = libc().socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) throw kernelError('open a socket', lastErrno());
  try {
    if ((command(fd, device, ETHTOOL_GTXCSUM, 0) !== 0) === on) return false;
    command(fd, device, ETHTOOL_STXCSUM, on ? 1 : 0);
    return true;
  } finally {
    libc().close(fd);
  }
}
