import { once } from 'node:events';
import type { Namespace } from './namespace.ts';

/** What has come to a UDP socket. */
export interface UdpSink {
  readonly received: readonly string[];
  close(): Promise<void>;
}

/** Receives at an address and port of a namespace until that is removed. */
export async function udpSink(namespace: Namespace, host: string, port: number): Promise<UdpSink> {
  const program = `const socket = require('node:dgram').createSocket('udp${host.includes(':') ? 6 : 4}');
    socket.on('message', (message) => console.log(message.toString()));
    socket.bind(${port}, '${host}', () => console.log('ready'));`;
  const child = namespace.spawn(process.execPath, ['-e', program], { stdio: ['ignore', 'pipe', 'inherit'] });
  const received: string[] = [];
  const output = child.stdout as NodeJS.ReadableStream;
  await once(output, 'data');
  output.on('data', (data: Buffer) => received.push(...data.toString().trim().split('\n')));
  const close = async (): Promise<void> => {
    const ended = once(child, 'exit');
    child.kill();
    await ended;
  };
  return { received, close };
}

export interface Datagram {
  readonly address: string;
  readonly port: number;
  /** Source address; by default the kernel's choice. */
  readonly from?: string;
  readonly data: Buffer | string;
}

/** Sends one datagram, as an unprivileged program can. */
export async function udpSend(namespace: Namespace, { address, port, from, data }: Datagram): Promise<void> {
  const program = `const socket = require('node:dgram').createSocket('udp${address.includes(':') ? 6 : 4}');
    const send = () => socket.send(Buffer.from('${Buffer.from(data).toString('hex')}', 'hex'), ${port}, '${address}', (error) => {
      socket.close();
      if (error) throw error;
    });
    ${from === undefined ? 'send()' : `socket.bind(0, '${from}', send)`}`;
  await namespace.exec(process.execPath, ['-e', program]);
}

function checksum(parts: readonly Buffer[]): number {
  const joined = Buffer.concat(parts);
  const all = Buffer.concat([joined, Buffer.alloc(joined.length % 2)]);
  let sum = 0;
  for (let at = 0; at < all.length; at += 2) sum += all.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

/** `a.b.c.d`, or IPv6 with all its groups. */
function bytes(address: string): Buffer {
  if (!address.includes(':')) return Buffer.from(address.split('.').map(Number));
  const [head = '', tail] = address.split('::');
  const groups = (text: string): string[] => text.split(':').filter((group) => group !== '');
  const [first, last] = [groups(head), groups(tail ?? '')];
  const zeros = Array.from({ length: 8 - first.length - last.length }, () => '0');
  return Buffer.from([...first, ...zeros, ...last].map((group) => group.padStart(4, '0')).join(''), 'hex');
}

/** A UDP packet with its IP header. */
function packet(source: string, destination: string, port: number, text: string): Buffer {
  const [from, to] = [bytes(source), bytes(destination)];
  const udp = Buffer.concat([Buffer.alloc(8), Buffer.from(text)]);
  udp.writeUInt16BE(4000, 0);
  udp.writeUInt16BE(port, 2);
  udp.writeUInt16BE(udp.length, 4);
  udp.writeUInt16BE(checksum([from, to, Buffer.from([0, 17, 0, udp.length]), udp]), 6);
  if (from.length === 16) {
    const header = Buffer.from([0x60, 0, 0, 0, 0, udp.length, 17, 64]);
    return Buffer.concat([header, from, to, udp]);
  }
  const header = Buffer.concat([
    Buffer.from([0x45, 0, 0, 20 + udp.length, 0, 1, 0, 0, 64, 17, 0, 0]),
    from,
    to,
  ]);
  header.writeUInt16BE(checksum([header]), 10);
  return Buffer.concat([header, udp]);
}

/** How a node's tunnel looks in each family; `pretended` is an address that nobody has. */
export const tunnels = [
  { name: 'ipv4', device: 'flannel.1', iptables: 'iptables', pretended: '203.0.113.9' },
  { name: 'ipv6', device: 'flannel-v6.1', iptables: 'ip6tables', pretended: '2001:db8:9::9' },
] as const;

export async function macOf(namespace: Namespace, device: string): Promise<string> {
  return JSON.parse(await namespace.exec('ip', ['-j', 'link', 'show', device]))[0].address;
}

/** What a node would carry to another in UDP (RFC 7348): a frame with a UDP packet. */
export function vxlan(options: {
  readonly vni: number;
  readonly mac: string;
  readonly source: string;
  readonly destination: string;
  readonly port: number;
  readonly text: string;
}): Buffer {
  const header = Buffer.from([8, 0, 0, 0, 0, 0, options.vni, 0]);
  const v6 = options.source.includes(':');
  const frame = Buffer.from(`${options.mac.replaceAll(':', '')}020000000001${v6 ? '86dd' : '0800'}`, 'hex');
  return Buffer.concat([
    header,
    frame,
    packet(options.source, options.destination, options.port, options.text),
  ]);
}
