import { readFileSync } from 'node:fs';
import { inNetns, type Netns } from '../../kernel/netns.ts';
import { type Family, parseAddress } from '../../model/address.ts';
import type { Protocol } from './plan/packet.ts';

const LISTEN = '0A';

function lines(file: string): string[] {
  try {
    return readFileSync(`/proc/thread-self/net/${file}`, 'utf8').split('\n').slice(1);
  } catch {
    return [];
  }
}

/** The kernel prints addresses in words of 32 bits, each in its own byte order. */
function addressOf(hex: string): bigint {
  const words = hex.match(/.{8}/g) ?? [];
  const bytes = words.flatMap((word) => (word.match(/../g) ?? []).reverse());
  return BigInt(`0x${bytes.join('') || '0'}`);
}

function listens(file: string, isTcp: boolean, address: bigint, port: number): boolean {
  return lines(file).some((line) => {
    const [, local = '', , state] = line.trim().split(/\s+/);
    const [host = '', number = ''] = local.split(':');
    if (Number.parseInt(number, 16) !== port || (isTcp && state !== LISTEN)) return false;
    const bound = addressOf(host);
    return bound === 0n || bound === address;
  });
}

/** Whether a process of the namespace listens; undefined where the kernel does not say (SCTP). */
export function isListening(
  netns: Netns | undefined,
  about: {
    readonly family: Family;
    readonly protocol: Protocol;
    readonly address: string;
    readonly port: number;
  },
): boolean | undefined {
  const { protocol, port } = about;
  if (protocol === 'sctp') return undefined;
  const address = parseAddress(about.address);
  const isTcp = protocol === 'tcp';
  const look = (): boolean => {
    if (address.family.name === 'ipv6') return listens(`${protocol}6`, isTcp, address.value, port);
    // A socket of IPv6 takes what comes over IPv4 as well, under an address that begins with 80 zeros and 16 ones.
    const mapped = 0xffff_0000_0000n | address.value;
    return listens(protocol, isTcp, address.value, port) || listens(`${protocol}6`, isTcp, mapped, port);
  };
  return netns === undefined ? look() : inNetns(netns, look);
}
