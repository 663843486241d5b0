// Sends rubbish to HTTP servers at 127.0.0.1: tests run this program inside a namespace. Arguments: the ports,
// comma-separated, a seed, and how many connections to make. Prints what it saw as JSON: see FuzzReport.

import { connect } from 'node:net';
import { seeded } from './random.ts';

/** A text that is in every request, and must be in no answer. */
export const marker = 'x1nj3ct3d';

export interface FuzzReport {
  readonly connections: number;
  /** How often an answer began with this status; `none` where there was none. */
  readonly statuses: Readonly<Record<string, number>>;
  /** Answers that no server of ours gives, with the request. */
  readonly strange: readonly { readonly request: string; readonly answer: string }[];
}

const methods = [
  'GET',
  'HEAD',
  'POST',
  'PUT',
  'OPTIONS',
  'CONNECT',
  'TRACE',
  'PRI',
  'get',
  'M-SEARCH',
  '',
  'GE\tT',
];
const targets = [
  '/',
  '//',
  '///',
  '//[',
  '/healthz',
  '/readyz',
  '/livez',
  '/metrics',
  '/proxyMode',
  '/events',
  '/trace?from=node&to=',
  '*',
  'http://',
  'http://[::1',
  'http://%/healthz',
  'http://a:99999/healthz',
  '//user:pass@host/healthz',
  'https://x/healthz?',
  'file:///etc/passwd',
  '/../../etc/passwd',
  '/%00',
  '/%',
  '/%ff%fe',
  '/healthz%0d%0aX-Injected: yes',
  '/__proto__',
  '/constructor',
  '/toString',
  'javascript:1',
  '\\\\host\\healthz',
  '127.0.0.1:80',
  '/healthz;a=b',
  '/healthz\u0000',
  'éü',
  `/${'a'.repeat(9000)}`,
  `/${'a'.repeat(20_000)}`,
];
const versions = ['HTTP/1.1', 'HTTP/1.0', 'HTTP/2.0', 'HTTP/9.9', 'http/1.1', '', 'HTTP/1.1 '];
const headers = [
  'Host: x',
  'Host: x\r\nHost: y',
  'Host: //[',
  'Connection: close',
  'Connection: keep-alive, upgrade',
  'Upgrade: h2c\r\nHTTP2-Settings: AAAA',
  'Upgrade: websocket',
  'Expect: 100-continue',
  'Expect: 200-ok',
  'Content-Length: 5',
  'Content-Length: -1',
  'Content-Length: 99999999999999999999',
  'Content-Length: 1\r\nContent-Length: 2',
  'Transfer-Encoding: chunked',
  'Transfer-Encoding: chunked, identity',
  'Content-Length: 3\r\nTransfer-Encoding: chunked',
  'X: \u0000',
  ': empty',
  'no colon',
  ' folded: yes',
  `Long: ${'b'.repeat(12_000)}`,
  Array.from({ length: 500 }, (_, index) => `H${index}: ${index}`).join('\r\n'),
  'Accept-Encoding: gzip, \u00ff',
  'Range: bytes=0-',
  'Forwarded: for="[::1"',
  'X-Forwarded-Host: //[',
  'Authorization: Bearer x',
];
const bodies = [
  '',
  'hello',
  '5\r\nhello\r\n0\r\n\r\n',
  'ffffffffffffffff\r\n',
  '-1\r\n',
  '\r\n\r\n',
  '\u0000'.repeat(100),
];

/** What heads of answers may say. */
const known = new RegExp(
  `^(${[
    'content-type|content-length|date|connection|keep-alive|transfer-encoding|x-content-type-options',
    'x-load-balancing-endpoint-weight',
    // Of the page.
    'content-security-policy|x-frame-options|referrer-policy|cross-origin-(resource|opener)-policy|cache-control',
  ].join('|')}): `,
  'i',
);

function isStrange(answer: string): boolean {
  if (answer.includes(marker) || /x-injected/i.test(answer)) return true;
  if (answer === '') return false;
  const [head = ''] = answer.split('\r\n\r\n');
  const [status = '', ...lines] = head.split('\r\n');
  return !/^HTTP\/1\.1 \d{3} /.test(status) || lines.some((line) => !known.test(line));
}

class Fuzzer {
  private readonly random: (below: number) => number;

  constructor(seed: number) {
    this.random = seeded(seed);
  }

  private one<T>(of: readonly T[]): T {
    return of[this.random(of.length)]!;
  }

  /** One that a server takes, but for what is odd in one place. */
  private gentle(): string {
    const target = this.one(targets) + this.one(['', '', `?${marker}`, `#${marker}`]);
    const more = this.random(3) === 0 ? [this.one(headers)] : [];
    return [`${this.one(['GET', 'GET', 'HEAD'])} ${target} HTTP/1.1`, 'Host: x', ...more, '', ''].join(
      '\r\n',
    );
  }

  private request(): string {
    const fields = Array.from({ length: this.random(5) }, () => this.one(headers));
    const end = this.one(['\r\n', '\r\n', '\r\n', '\n', '\r']);
    const line = `${this.one(methods)} ${this.one(targets)} ${this.one(versions)}`;
    const marked = [...fields, `X-Marker: ${marker}`];
    return `${line}${end}${marked.join(end)}${end}${end}${this.one(bodies)}`;
  }

  /** Some bytes changed, taken out or put in. */
  private mutated(text: string): Buffer {
    const bytes = [...Buffer.from(text, 'latin1')];
    for (let count = this.random(4); count > 0; count--) {
      const at = this.random(bytes.length);
      const change = this.random(3);
      if (change === 0) bytes[at] = this.random(256);
      else if (change === 1) bytes.splice(at, this.random(20));
      else bytes.splice(at, 0, ...Array.from({ length: this.random(20) }, () => this.random(256)));
    }
    return Buffer.from(bytes);
  }

  /** What one connection sends, in the pieces in which it does. */
  pieces(): Buffer[] {
    const gentle = this.random(2) === 0;
    const one = (): string => (gentle ? this.gentle() : this.request());
    const requests = Array.from({ length: 1 + this.random(3) }, one).join('');
    const mutated = !gentle && this.random(2) === 0;
    let rest = mutated ? this.mutated(requests) : Buffer.from(requests, 'latin1');
    const pieces: Buffer[] = [];
    while (rest.length > 0) {
      const length = this.random(4) === 0 ? 1 + this.random(rest.length) : rest.length;
      pieces.push(rest.subarray(0, length));
      rest = rest.subarray(length);
    }
    return pieces;
  }

  /** How a connection ends: by us after so many milliseconds, one way or the other. */
  ending(): { readonly afterMs: number; readonly how: 'end' | 'destroy' | 'reset' } {
    return { afterMs: this.random(15), how: this.one(['end', 'destroy', 'reset'] as const) };
  }

  port(ports: readonly number[]): number {
    return this.one(ports);
  }
}

/** @returns what came back */
async function talk(
  port: number,
  pieces: readonly Buffer[],
  ending: ReturnType<Fuzzer['ending']>,
): Promise<string> {
  const socket = connect(port, '127.0.0.1');
  let answer = '';
  socket.on('data', (data) => {
    answer += data.toString('latin1');
  });
  socket.on('error', () => {});
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  for (const piece of pieces) {
    if (socket.destroyed) break;
    socket.write(piece);
    await new Promise((resolve) => setImmediate(resolve));
  }
  const timer = setTimeout(() => {
    if (ending.how === 'reset') socket.resetAndDestroy();
    else if (ending.how === 'destroy') socket.destroy();
    else socket.end();
  }, ending.afterMs);
  // Whoever waits for the rest of a request has a time-out of its own.
  const latest = setTimeout(() => socket.destroy(), 200);
  await closed;
  clearTimeout(timer);
  clearTimeout(latest);
  return answer;
}

const LANES = 16;

async function main(ports: readonly number[], seed: number, connections: number): Promise<FuzzReport> {
  const fuzzer = new Fuzzer(seed);
  const statuses: Record<string, number> = {};
  const strange: { request: string; answer: string }[] = [];
  let left = connections;
  const lane = async (): Promise<void> => {
    while (left-- > 0) {
      const pieces = fuzzer.pieces();
      const answer = await talk(fuzzer.port(ports), pieces, fuzzer.ending());
      const [, status = 'none'] = /^HTTP\/1\.1 (\d{3}) /.exec(answer) ?? [];
      statuses[status] = (statuses[status] ?? 0) + 1;
      if (!isStrange(answer) || strange.length > 5) continue;
      strange.push({
        request: Buffer.concat(pieces).toString('latin1').slice(0, 500),
        answer: answer.slice(0, 500),
      });
    }
  };
  await Promise.all(Array.from({ length: LANES }, lane));
  return { connections, statuses, strange };
}

const [ports, seed, connections] = process.argv.slice(2);
if (ports !== undefined)
  process.stdout.write(
    JSON.stringify(await main(ports.split(',').map(Number), Number(seed), Number(connections))),
  );
