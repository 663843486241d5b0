import { constants } from 'node:os';
import { type ErrorCode, TwillError } from '../model/error.ts';

const names = new Map<number, string>(Object.entries(constants.errno).map(([name, value]) => [value, name]));

const codes: Readonly<Record<string, ErrorCode>> = {
  EPERM: 'permission',
  EACCES: 'permission',
  EEXIST: 'exists',
  ENOENT: 'not-found',
  ENODEV: 'not-found',
  ESRCH: 'not-found',
  EADDRNOTAVAIL: 'not-found',
  ENOSPC: 'exhausted',
  ENOBUFS: 'exhausted',
  ENOMEM: 'exhausted',
  EBUSY: 'conflict',
  EMFILE: 'unavailable',
  ENFILE: 'unavailable',
};

const advice: Readonly<Record<string, string>> = {
  EPERM: 'run as root with CAP_NET_ADMIN (and CAP_SYS_ADMIN for namespaces)',
  EACCES: 'run as root with CAP_NET_ADMIN (and CAP_SYS_ADMIN for namespaces)',
  EOPNOTSUPP: 'the kernel lacks this feature: check that its module (vxlan, bridge, veth) is available',
};

/** Symbolic name of a positive errno, e.g. `EPERM`. */
function errnoName(errno: number): string {
  return names.get(errno) ?? `errno ${errno}`;
}

/** A refusal by the kernel that tells what it said: where several have one code and mean different things. */
export class KernelRefusal extends TwillError {
  /** Symbolic name, e.g. `EHOSTUNREACH`. */
  readonly errno: string;

  constructor(code: ErrorCode, message: string, errno: string) {
    super(code, message);
    this.errno = errno;
  }
}

/** The error for a kernel refusal: `what` says what was being done, as in "add route 10.244.7.0/24". */
export function kernelError(what: string, errno: number): KernelRefusal {
  const name = errnoName(errno);
  const hint = advice[name];
  const message = `${what}: ${name}${hint === undefined ? '' : ` (${hint})`}`;
  return new KernelRefusal(codes[name] ?? 'kernel', message, name);
}
