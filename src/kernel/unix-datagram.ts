import { TwillError } from '../model/error.ts';
import { kernelError } from './errno.ts';
import { lastErrno, libc } from './libc.ts';

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0x80000;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
/** sun_path, less the zero byte that ends a path. */
const MAX_PATH = 107;

/** struct sockaddr_un: a path ends with a zero byte, an abstract name (`@…`) begins with one and ends with the address. */
function socketAddress(name: string): Buffer {
  const abstract = name.startsWith('@');
  const bytes = Buffer.from(abstract ? `\0${name.slice(1)}` : `${name}\0`);
  const family = Buffer.alloc(2);
  family.writeUInt16LE(AF_UNIX, 0);
  return Buffer.concat([family, bytes]);
}

/** Sends datagrams to a Unix socket, which Node does not do. */
export class UnixDatagram {
  private readonly fd: number;
  private readonly address: Buffer;
  private readonly name: string;

  /** @param name a path, or `@` and an abstract name @throws TwillError `invalid` for a name of another kind */
  constructor(name: string) {
    if (!/^[/@]./.test(name) || Buffer.byteLength(name) > MAX_PATH)
      throw new TwillError('invalid', `'${name}' is neither the path nor the abstract name of a socket`);
    this.name = name;
    this.address = socketAddress(name);
    this.fd = libc().socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (this.fd < 0) throw kernelError('open a Unix socket', lastErrno());
  }

  /** @throws TwillError when nobody takes it now */
  send(text: string): void {
    const data = Buffer.from(text);
    const flags = MSG_DONTWAIT | MSG_NOSIGNAL;
    const sent = libc().sendto(this.fd, data, data.length, flags, this.address, this.address.length);
    if (Number(sent) !== data.length) throw kernelError(`send to socket '${this.name}'`, lastErrno());
  }

  close(): void {
    libc().close(this.fd);
  }
}
