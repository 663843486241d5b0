// Speaks just enough SCTP (RFC 9260) over a raw socket to see where a packet goes, as kernels without SCTP sockets can
// still translate its ports. `listen` prints the source and the ports of what arrives; `send ADDRESS PORT` sends INITs.
import koffi from 'koffi';

const AF_INET = 2;
const SOCK_RAW = 3;
const IPPROTO_SCTP = 132;

const library = koffi.load('libc.so.6');
const socket = library.func('int socket(int domain, int type, int protocol)');
const recv = library.func('long recv(int fd, _Out_ uint8_t *buffer, unsigned long length, int flags)');
const sendto = library.func(
  'long sendto(int fd, uint8_t *data, unsigned long length, int flags, uint8_t *address, unsigned int size)',
);

function crc32c(data: Buffer): number {
  let crc = 0xffffffff;
  for (const byte of data) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0);
  }
  return ~crc >>> 0;
}

function initPacket(source: number, destination: number): Buffer {
  const packet = Buffer.alloc(32);
  packet.writeUInt16BE(source, 0);
  packet.writeUInt16BE(destination, 2);
  packet.writeUInt8(1, 12); // INIT
  packet.writeUInt16BE(20, 14); // length of the chunk
  packet.writeUInt32BE(1, 16); // initiate tag
  packet.writeUInt32BE(65_535, 20); // window
  packet.writeUInt16BE(1, 24); // outbound streams
  packet.writeUInt16BE(1, 26); // inbound streams
  packet.writeUInt32LE(crc32c(packet), 8);
  return packet;
}

const [mode, address = '', port = '0'] = process.argv.slice(2);
const fd: number = socket(AF_INET, SOCK_RAW, IPPROTO_SCTP);
if (fd < 0) throw new Error(`no raw socket: error ${koffi.errno()}`);
if (mode === 'listen') {
  const packet = Buffer.alloc(2048);
  const next = (): void =>
    recv.async(fd, packet, packet.length, 0, () => {
      const payload = packet.subarray((packet.readUInt8(0) & 15) * 4);
      console.log([...packet.subarray(12, 16)].join('.'), payload.readUInt16BE(2));
      next();
    });
  next();
  console.log('ready');
} else {
  const to = Buffer.alloc(16);
  to.writeUInt16LE(AF_INET, 0);
  to.set(address.split('.').map(Number), 4);
  setInterval(() => sendto(fd, initPacket(40_000, Number(port)), 32, 0, to, 16), 20);
}
