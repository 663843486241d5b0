// Sends one packet no socket of this kernel would: `sctp` begins an association, `rst` resets a connection that never
// was, `ra` advertises a router. Run inside a namespace; arguments: kind, IPv4 address, port, and for `rst` the source
// address; for `ra` the name and the index of the device.
import koffi from 'koffi';

const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_RAW = 3;
const IPPROTO = { sctp: 132, rst: 6, ra: 58 } as const;
const IPPROTO_IPV6 = 41;
const IPV6_MULTICAST_HOPS = 18;
const SOURCE_PORT = 40_000;

/** RFC 9260, appendix A. */
function crc32c(data: Buffer): number {
  let crc = 0xffff_ffff;
  for (const byte of data) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f6_3b78 : 0);
  }
  return ~crc >>> 0;
}

/** An INIT chunk (RFC 9260, section 3.3.2). */
function sctpInit(port: number): Buffer {
  const packet = Buffer.alloc(12 + 20);
  packet.writeUInt16BE(SOURCE_PORT, 0);
  packet.writeUInt16BE(port, 2);
  packet.writeUInt8(1, 12);
  packet.writeUInt16BE(20, 14);
  packet.writeUInt32BE(0x1234_5678, 16);
  packet.writeUInt32BE(65_536, 20);
  packet.writeUInt16BE(1, 24);
  packet.writeUInt16BE(1, 26);
  packet.writeUInt32BE(1, 28);
  packet.writeUInt32LE(crc32c(packet), 8);
  return packet;
}

/** The Internet checksum over the pseudo header and the segment (RFC 9293, section 3.1). */
function tcpReset(port: number, source: Buffer, destination: Buffer): Buffer {
  const segment = Buffer.alloc(20);
  segment.writeUInt16BE(SOURCE_PORT, 0);
  segment.writeUInt16BE(port, 2);
  segment.writeUInt32BE(1, 4);
  segment.writeUInt8(5 << 4, 12);
  segment.writeUInt8(0x04, 13);
  const all = Buffer.concat([source, destination, Buffer.from([0, 6, 0, segment.length]), segment]);
  let sum = 0;
  for (let at = 0; at < all.length; at += 2) sum += all.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  segment.writeUInt16BE(~sum & 0xffff, 16);
  return segment;
}

function bytes(address: string): Buffer {
  return Buffer.from(address.split('.').map(Number));
}

/** A default router for half an hour, and a prefix for addresses (RFC 4861, section 4.2; the kernel adds the checksum). */
function advertisement(): Buffer {
  const packet = Buffer.alloc(16 + 32);
  packet.writeUInt8(134, 0);
  packet.writeUInt8(64, 4);
  packet.writeUInt16BE(1800, 6);
  packet.writeUInt8(3, 16); // Prefix Information
  packet.writeUInt8(4, 17);
  packet.writeUInt8(64, 18);
  packet.writeUInt8(0xc0, 19); // on-link, for addresses
  packet.writeUInt32BE(3600, 20);
  packet.writeUInt32BE(1800, 24);
  Buffer.from('20010db800ff0000', 'hex').copy(packet, 32);
  return packet;
}

/** sockaddr_in6 of all nodes on the device. */
function allNodes(device: number): Buffer {
  const target = Buffer.alloc(28);
  target.writeUInt16LE(AF_INET6, 0);
  Buffer.from('ff020000000000000000000000000001', 'hex').copy(target, 8);
  target.writeUInt32LE(device, 24);
  return target;
}

const [kind, address, port, source = '0.0.0.0'] = process.argv.slice(2) as [
  keyof typeof IPPROTO,
  string,
  string,
  string?,
];
const library = koffi.load('libc.so.6');
const socket = library.func('int socket(int domain, int type, int protocol)');
const sendto = library.func(
  'long sendto(int fd, const void *data, unsigned long length, int flags, const void *address, unsigned int size)',
);
const packets = {
  sctp: () => sctpInit(Number(port)),
  rst: () => tcpReset(Number(port), bytes(source), bytes(address)),
  ra: advertisement,
};
const packet = packets[kind]();
const target = kind === 'ra' ? allNodes(Number(port)) : Buffer.alloc(16);
if (kind !== 'ra') {
  target.writeUInt16LE(AF_INET, 0);
  bytes(address).copy(target, 4);
}
const fd = socket(kind === 'ra' ? AF_INET6 : AF_INET, SOCK_RAW, IPPROTO[kind]) as number;
if (kind === 'ra') {
  // Advertisements that came through a router are not believed (RFC 4861, section 6.1.2).
  const setsockopt = library.func(
    'int setsockopt(int fd, int level, int name, const void *value, unsigned int length)',
  );
  const hops = Buffer.alloc(4);
  hops.writeInt32LE(255, 0);
  setsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, hops, 4);
}
if (Number(sendto(fd, packet, packet.length, 0, target, target.length)) !== packet.length) {
  throw new Error(`cannot send: error ${koffi.errno()}`);
}
