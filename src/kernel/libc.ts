import koffi from 'koffi';

/** The C library's functions that Node has no wrapper for. */
interface Libc {
  setns(fd: number, kind: number): number;
  if_nametoindex(name: string): number;
  socket(domain: number, type: number, protocol: number): number;
  getsockopt(fd: number, level: number, name: number, value: Buffer, length: Uint32Array): number;
  setsockopt(fd: number, level: number, name: number, value: Buffer, length: number): number;
  /** SO_ATTACH_FILTER with a classic BPF program: whole instructions of 8 bytes. */
  attachFilter(fd: number, program: Buffer): number;
  send(fd: number, data: Buffer, length: number, flags: number): number;
  sendto(fd: number, data: Buffer, length: number, flags: number, address: Buffer, size: number): number;
  recv(fd: number, buffer: Buffer, length: number, flags: number): number;
  close(fd: number): number;
  madvise(address: number, length: number, advice: number): number;
  /** Arrays end with null. */
  execve(path: string, argv: (string | null)[], environment: (string | null)[]): number;
  fcntl(fd: number, command: number, type: 'int', argument: number): number;
  ioctl(fd: number, request: number, argument: unknown): number;
  /** send(2) on a thread of the pool, for a socket whose peer takes its time: rejects never, resolves to its result. */
  sendAside(fd: number, data: Buffer): Promise<number>;
  /** Likewise recv(2) of what is there: -1 where nothing is. The buffer is written to until then. */
  recvAside(fd: number, buffer: Buffer): Promise<number>;
}

const SOL_SOCKET = 1;
const SO_ATTACH_FILTER = 26;
const MSG_DONTWAIT = 0x40;

let loaded: Libc | undefined;

/** Loaded on first use: most commands need none of it. */
export function libc(): Libc {
  if (loaded !== undefined) return loaded;
  const library = koffi.load('libc.so.6');
  const recv = library.func('long recv(int fd, _Out_ void *buffer, unsigned long length, int flags)');
  const send = library.func('long send(int fd, const void *data, unsigned long length, int flags)');
  // struct sock_fprog
  const program = koffi.struct({ length: 'uint16_t', instructions: 'void *' });
  const setProgram = library.func('setsockopt', 'int', [
    'int',
    'int',
    'int',
    koffi.pointer(program),
    'unsigned int',
  ]);
  loaded = {
    setns: library.func('int setns(int fd, int nstype)') as Libc['setns'],
    if_nametoindex: library.func('unsigned int if_nametoindex(const char *name)') as Libc['if_nametoindex'],
    socket: library.func('int socket(int domain, int type, int protocol)') as Libc['socket'],
    getsockopt: library.func(
      'int getsockopt(int fd, int level, int name, _Inout_ uint8_t *value, _Inout_ uint32_t *length)',
    ) as Libc['getsockopt'],
    setsockopt: library.func(
      'int setsockopt(int fd, int level, int name, const void *value, unsigned int length)',
    ) as Libc['setsockopt'],
    attachFilter: (fd, instructions) =>
      setProgram(fd, SOL_SOCKET, SO_ATTACH_FILTER, { length: instructions.length / 8, instructions }, 16),
    send: send as unknown as Libc['send'],
    sendto: library.func(
      'long sendto(int fd, const void *data, unsigned long length, int flags, const void *address, unsigned int size)',
    ) as Libc['sendto'],
    recv: recv as unknown as Libc['recv'],
    execve: library.func(
      'int execve(const char *path, const char **argv, const char **envp)',
    ) as Libc['execve'],
    fcntl: library.func('int fcntl(int fd, int command, ...)') as unknown as Libc['fcntl'],
    ioctl: library.func('int ioctl(int fd, unsigned long request, void *argument)') as Libc['ioctl'],
    close: library.func('int close(int fd)') as Libc['close'],
    madvise: library.func('int madvise(uintptr_t address, size_t length, int advice)') as Libc['madvise'],
    sendAside: (fd, data) =>
      new Promise((resolve) => {
        send.async(fd, data, data.length, 0, (error: Error | null, sent: number) =>
          resolve(error === null ? Number(sent) : -1),
        );
      }),
    recvAside: (fd, buffer) =>
      new Promise((resolve) => {
        recv.async(fd, buffer, buffer.length, MSG_DONTWAIT, (error: Error | null, received: number) =>
          resolve(error === null ? Number(received) : -1),
        );
      }),
  };
  return loaded;
}

/** errno of the calling thread's last call. */
export function lastErrno(): number {
  return koffi.errno();
}
