// The C library, called directly, and blocking: Bun's own files and sockets start three threads and an event loop, which
// takes 2 ms of the 6 that a call then takes.
type CType = 'i32' | 'u64' | 'ptr' | 'void';
type Pointer = number & { readonly pointer: never };
type Argument = number | Uint8Array | Int32Array | BigInt64Array;

/** The part of `bun:ffi` that is used, without the module around it: that would be another tenth of the start. */
declare const Bun: {
  readonly FFI: {
    dlopen<T extends Readonly<Record<string, { readonly args: readonly CType[]; readonly returns: CType }>>>(
      library: string,
      signatures: T,
    ): {
      readonly symbols: {
        readonly [K in keyof T]: (...args: Argument[]) => T[K]['returns'] extends 'ptr' ? Pointer : number;
      };
    };
    readonly read: { i32(pointer: Pointer): number };
  };
};

const { dlopen, read: memory } = Bun.FFI;

const library = dlopen('libc.so.6', {
  __errno_location: { args: [], returns: 'ptr' },
  _exit: { args: ['i32'], returns: 'void' },
  poll: { args: ['ptr', 'u64', 'i32'], returns: 'i32' },
  read: { args: ['i32', 'ptr', 'u64'], returns: 'i32' },
  write: { args: ['i32', 'ptr', 'u64'], returns: 'i32' },
  socket: { args: ['i32', 'i32', 'i32'], returns: 'i32' },
  setsockopt: { args: ['i32', 'i32', 'i32', 'ptr', 'i32'], returns: 'i32' },
  connect: { args: ['i32', 'ptr', 'i32'], returns: 'i32' },
});
// It returns what it should throw, as in a process that may not make memory executable.
if (library instanceof Error) throw library;
const { symbols: libc } = library;

const ENOENT = 2;
const EINTR = 4;
const EAGAIN = 11;
const ECONNREFUSED = 111;
const POLLIN = 1;
const POLLOUT = 4;
const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_CLOEXEC = 0x80000;
const SOL_SOCKET = 1;
const SO_RCVTIMEO = 20;
const SO_SNDTIMEO = 21;
/** Longest path of a Unix socket in bytes: struct sockaddr_un's 108, one of which ends it. */
const MAX_PATH = 107;

const encoder = new TextEncoder();
const buffer = new Uint8Array(65_536);

function errno(): number {
  return memory.i32(libc.__errno_location());
}

/** Calls again what a signal interrupted; `wait` says what to do when the descriptor is not ready. */
function persist(call: () => number, wait: () => void): number {
  for (;;) {
    const result = call();
    if (result >= 0) return result;
    const code = errno();
    if (code === EAGAIN) wait();
    else if (code !== EINTR) throw new Error(`error ${code}`);
  }
}

function waitFor(fd: number, events: number): void {
  // struct pollfd: int fd, short events, short revents
  libc.poll(Int32Array.of(fd, events), 1, -1);
}

function readText(fd: number, wait: () => void, isWhole: (chunk: Uint8Array) => boolean): string {
  const decoder = new TextDecoder();
  let text = '';
  for (;;) {
    const length = persist(() => libc.read(fd, buffer, buffer.length), wait);
    if (length === 0) return text;
    const chunk = buffer.subarray(0, length);
    text += decoder.decode(chunk, { stream: true });
    if (isWhole(chunk)) return text;
  }
}

function writeText(fd: number, text: string, wait: () => void): void {
  let rest = encoder.encode(text);
  while (rest.length > 0) {
    const bytes = rest;
    rest = bytes.subarray(persist(() => libc.write(fd, bytes, bytes.length), wait));
  }
}

/** Standard input; undefined when it has more than `most` bytes. @throws Error */
export function readInput(most: number): string | undefined {
  let length = 0;
  const text = readText(
    0,
    () => waitFor(0, POLLIN),
    (chunk) => {
      length += chunk.length;
      return length > most;
    },
  );
  return length > most ? undefined : text;
}

/** Prints and ends the process; does not return. */
export function finish(output: string, status: number): void {
  try {
    writeText(1, output, () => waitFor(1, POLLOUT));
  } finally {
    libc._exit(status);
  }
}

const connectFailures: Readonly<Record<number, string>> = {
  [ENOENT]: 'there is no such socket',
  [ECONNREFUSED]: 'nobody listens on it',
};

function connect(path: string, deadlineMs: number): number {
  const name = encoder.encode(path);
  if (name.length > MAX_PATH) throw new Error(`the path of a socket has at most ${MAX_PATH} bytes`);
  const fd = libc.socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  // struct timeval; the kernel's socket calls end with EAGAIN after that time.
  const limit = BigInt64Array.of(
    BigInt(Math.floor(deadlineMs / 1000)),
    BigInt(Math.ceil((deadlineMs % 1000) * 1000)),
  );
  for (const option of [SO_RCVTIMEO, SO_SNDTIMEO]) libc.setsockopt(fd, SOL_SOCKET, option, limit, 16);
  const address = new Uint8Array(2 + MAX_PATH + 1);
  address[0] = AF_UNIX;
  address.set(name, 2);
  if (libc.connect(fd, address, address.length) !== 0) {
    const code = errno();
    throw new Error(connectFailures[code] ?? `connecting failed with error ${code}`);
  }
  return fd;
}

/** Sends a line to a Unix socket and returns the line that is answered. @throws Error with the reason when there is none */
export function askSocket(path: string, line: string, deadlineMs: number): string {
  const tooLate = (): void => {
    throw new Error(`no answer within ${deadlineMs} ms`);
  };
  const fd = connect(path, deadlineMs);
  writeText(fd, line, tooLate);
  const answer = readText(fd, tooLate, (chunk) => chunk.at(-1) === 10);
  if (!answer.endsWith('\n')) throw new Error('the agent closed the connection without an answer');
  return answer;
}
