// A client in a pod's namespace: connects to each of the addresses in turn, as often as it is told on its standard input,
// and answers with what each took, in microseconds. Sockets are the C library's own: Node's would cost more than the rules.
import { createInterface } from 'node:readline';
import koffi from 'koffi';

const AF_INET = 2;
const SOCK_STREAM = 1;
const SOL_SOCKET = 1;
const SO_LINGER = 13;

const library = koffi.load('libc.so.6');
const socket = library.func('int socket(int domain, int type, int protocol)');
const connect = library.func('int connect(int fd, const void *address, unsigned int length)');
const setsockopt = library.func(
  'int setsockopt(int fd, int level, int name, const void *value, unsigned int length)',
);
const close = library.func('int close(int fd)');

/** struct sockaddr_in */
function socketAddress(text: string): Buffer {
  const [address, port] = text.split(':');
  const bytes = Buffer.alloc(16);
  bytes.writeUInt16LE(AF_INET, 0);
  bytes.writeUInt16BE(Number(port), 2);
  bytes.set(address!.split('.').map(Number), 4);
  return bytes;
}

/** Ends a connection without its staying for a minute: on, after no seconds. */
const linger = Buffer.from([1, 0, 0, 0, 0, 0, 0, 0]);

function once(address: Buffer): number {
  const fd = socket(AF_INET, SOCK_STREAM, 0) as number;
  setsockopt(fd, SOL_SOCKET, SO_LINGER, linger, linger.length);
  const start = process.hrtime.bigint();
  const result = connect(fd, address, address.length) as number;
  const took = Number(process.hrtime.bigint() - start) / 1000;
  close(fd);
  if (result !== 0) throw new Error(`connect: error ${koffi.errno()}`);
  return took;
}

export interface Question {
  /** `address:port` each. */
  readonly targets: readonly string[];
  readonly times: number;
}

for await (const line of createInterface({ input: process.stdin })) {
  const { targets, times } = JSON.parse(line) as Question;
  const addresses = targets.map(socketAddress);
  const took = targets.map((): number[] => []);
  // By turns, so that what else the machine does is shared by all.
  for (let turn = 0; turn < times; turn++)
    addresses.forEach((address, index) => {
      took[index]!.push(once(address));
    });
  process.stdout.write(`${JSON.stringify(took)}\n`);
}
