// Stands in systemd's place: takes datagrams at the Unix socket of the first argument (`@…` for an abstract one) and writes
// each to standard output as a line of JSON. Runs until it is killed.
import { writeSync } from 'node:fs';
import koffi from 'koffi';

const AF_UNIX = 1;
const SOCK_DGRAM = 2;

const library = koffi.load('libc.so.6');
const socket = library.func('int socket(int domain, int type, int protocol)');
const bind = library.func('int bind(int fd, const void *address, unsigned int size)');
const recv = library.func('long recv(int fd, _Out_ void *buffer, unsigned long length, int flags)');

const name = process.argv[2]!;
const path = Buffer.from(name.startsWith('@') ? `\0${name.slice(1)}` : `${name}\0`);
const address = Buffer.concat([Buffer.from([AF_UNIX, 0]), path]);
const fd = socket(AF_UNIX, SOCK_DGRAM, 0) as number;
if (bind(fd, address, address.length) !== 0) throw new Error(`cannot bind ${name}: error ${koffi.errno()}`);
writeSync(1, '"bound"\n');
const buffer = Buffer.alloc(65_536);
for (;;) {
  const length = Number(recv(fd, buffer, buffer.length, 0));
  if (length > 0) writeSync(1, `${JSON.stringify(buffer.toString('utf8', 0, length))}\n`);
}
