import { createSocket, type Socket } from 'node:dgram';
import type { Address, Family } from '../model/address.ts';
import { monotonicMs } from '../process/clock.ts';
import { readAnswer } from './plan/packet.ts';
import type { Reply } from './plan/record.ts';

export interface Question {
  readonly family: Family;
  readonly from: Address;
  readonly to: Address;
  readonly port: number;
  readonly packet: Uint8Array;
  readonly timeoutMs: number;
}

/** A time-out that comes later than this was late itself: this process was stopped, or busy, and has not listened. */
const LATE_MS = 250;

export const openSocket = ({ name }: Family): Socket =>
  createSocket({
    type: name === 'ipv4' ? 'udp4' : 'udp6',
    ipv6Only: name === 'ipv6',
    // Addresses only: nothing is to be looked up.
    lookup: (address, _options, done) => done(null, address, name === 'ipv4' ? 4 : 6),
  });

const errorCode = (error: unknown): string | undefined => (error as NodeJS.ErrnoException).code;

/**
 * Asks once. The socket is connected, so that the kernel takes packets from there alone and tells when the other end says
 * that nobody listens (ICMP port unreachable), and it has a port by chance, which a forger had to guess.
 * @returns undefined where nothing can be said: this process did not listen in time
 */
export function ask(question: Question): Promise<Reply | undefined> {
  const { family, from, to, port, packet, timeoutMs } = question;
  return new Promise((resolve) => {
    const socket = openSocket(family);
    let timer: NodeJS.Timeout | undefined;
    const begunAt = monotonicMs();
    let sentAt = begunAt;
    const end = (reply: Reply | undefined): void => {
      if (timer === undefined) return;
      clearTimeout(timer);
      timer = undefined;
      socket.close();
      resolve(reply);
    };
    const since = (): number => monotonicMs() - sentAt;
    const late = (): boolean => monotonicMs() - begunAt > timeoutMs + LATE_MS;
    // What came meanwhile is read before the immediate.
    const over = (): unknown => setImmediate(() => end(late() ? undefined : { kind: 'lost' }));
    const put = (): void => {
      if (timer === undefined) return;
      sentAt = monotonicMs();
      socket.send(packet, (error) => {
        if (error) end({ kind: 'unsent', why: errorCode(error) ?? 'an error' });
      });
    };
    timer = setTimeout(over, timeoutMs);
    socket.on('message', (answer) => {
      const facts = readAnswer(packet, answer);
      if (facts === undefined) return;
      end(late() ? undefined : { kind: 'answered', micros: Math.max(1, Math.round(since() * 1000)), facts });
    });
    socket.on('error', (error) => {
      const code = errorCode(error) ?? 'an error';
      if (code === 'ECONNREFUSED') end({ kind: 'refused' });
      else end({ kind: 'unsent', why: code });
    });
    socket.on('connect', put);
    // A callback of connect would get its errors (no route, say), as if it were connected.
    socket.bind({ address: from.text, port: 0, exclusive: true }, () => {
      if (timer !== undefined) socket.connect(port, to.text);
    });
  });
}
