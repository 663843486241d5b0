import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createSecureContext } from 'node:tls';
import { Etcd3, type IOptions, isRecoverableError } from 'etcd3';
import { TwillError } from '../../model/error.ts';
import { monotonicMs, wallClockMs } from '../../process/clock.ts';
import { isTooBig } from './errors.ts';

/** How to reach etcd, as flanneld's `--etcd-*` flags say it. */
export interface EtcdOptions {
  /** `http://HOST:PORT` or `https://HOST:PORT`. */
  readonly endpoints: readonly string[];
  /** Without trailing slash, e.g. `/coreos.com/network`. */
  readonly prefix: string;
  readonly caFile?: string;
  readonly certFile?: string;
  readonly keyFile?: string;
  readonly username?: string;
  readonly password?: string;
  /** What stands there comes before `password`: it is read for every token. */
  readonly passwordFile?: string;
}

/** Milliseconds until a request that got no answer has failed. */
export const REQUEST_TIMEOUT_MS = 5000;

/**
 * Bytes of one answer; what is bigger ends the request ({@link isTooBig}). A thousand leases are 250 kB; somebody may have
 * written values as big as etcd takes them (1.5 MB by default), and those are asked for in smaller pages.
 */
const RECEIVE_LIMIT = 16 * 1024 * 1024;

function readCredential(path: string, flag: string): Buffer {
  try {
    return readFileSync(path);
  } catch (cause) {
    throw new TwillError('invalid', `cannot read ${flag} '${path}'`, cause);
  }
}

export type Certificates = IOptions['credentials'];

/** The certificates as the files have them now; undefined where TLS is not wanted. @throws TwillError `invalid` */
export function readCertificates(options: EtcdOptions): Certificates {
  const { caFile, certFile, keyFile } = options;
  if (caFile === undefined && certFile === undefined && keyFile === undefined) return undefined;
  if ((certFile === undefined) !== (keyFile === undefined))
    throw new TwillError('invalid', '--etcd-certfile and --etcd-keyfile belong together: give both');
  const ca = caFile === undefined ? undefined : readCredential(caFile, '--etcd-cafile');
  const key = keyFile === undefined ? undefined : readCredential(keyFile, '--etcd-keyfile');
  const cert = certFile === undefined ? undefined : readCredential(certFile, '--etcd-certfile');
  try {
    // While they are replaced, one file may be of before; the connection itself would throw that out of nowhere.
    createSecureContext({ ca, key, cert });
    // That takes a file without a certificate for one that trusts nobody.
    if (ca !== undefined) new X509Certificate(ca);
  } catch (cause) {
    const files = [caFile, certFile, keyFile].filter((file) => file !== undefined).join(', ');
    throw new TwillError('invalid', `the certificates for etcd (${files}) cannot be used`, cause);
  }
  return {
    // Without a CA file the system's certificates are used; etcd3's type does not say so, gRPC does.
    rootCertificate: (ca ?? null) as Buffer,
    ...(key === undefined ? {} : { privateKey: key }),
    ...(cert === undefined ? {} : { certChain: cert }),
  };
}

/** Runs the call as it is: retrying belongs to the loops, where it is visible. A throw must become a rejection. */
const passThrough = {
  execute: async (call: (context: object) => unknown): Promise<unknown> => call({}),
} as never;

/** How long a member that did not answer comes last, in milliseconds. */
const AVOID_MS = 10_000;

/**
 * Makes the library's choice of a member pass over those that failed lately, as long as there are others: a dead or
 * partitioned member would cost every third request of a cluster its time-out.
 */
function avoidFailing(members: number, now: () => number = () => monotonicMs()): (host: string) => never {
  const failed = new Map<string, number>();
  const avoided = (host: string): boolean =>
    now() - (failed.get(host) ?? Number.NEGATIVE_INFINITY) < AVOID_MS;
  const policy = (host: string) => ({
    execute: async (call: (context: object) => unknown): Promise<unknown> => {
      const others = members - [...failed.keys()].filter(avoided).length;
      // Thrown before the call, this makes the library try the next member.
      if (avoided(host) && others > 0) throw new Error(`etcd at ${host} did not answer lately`);
      try {
        const result = await call({});
        failed.delete(host);
        return result;
      } catch (error) {
        if (isRecoverableError(error as Error) && !isTooBig(error)) failed.set(host, now());
        throw error;
      }
    },
  });
  return policy as (host: string) => never;
}

type CallOptions = Exclude<NonNullable<IOptions['defaultCallOptions']>, (...context: never[]) => unknown>;
export type Interceptor = NonNullable<CallOptions['interceptors']>[number];

/**
 * A member that has lost its leader refuses then, and ends its watches, instead of going on silently with what it knew
 * (MetadataRequireLeaderKey of etcd's rpctypes).
 */
const requireLeader: Interceptor = (options, nextCall) => {
  const call = nextCall(options);
  const start = call.start.bind(call);
  call.start = (metadata, listener) => {
    metadata.set('hasleader', 'true');
    start(metadata, listener);
  };
  return call as ReturnType<Interceptor>;
};

/** @param interceptors what each request passes besides */
export function openEtcd(
  options: EtcdOptions,
  tls: Certificates,
  interceptors: readonly Interceptor[],
): Etcd3 {
  const hosts = options.endpoints.map((endpoint) =>
    tls === undefined ? endpoint : endpoint.replace(/^(http:\/\/)?(?!https:\/\/)/, 'https://'),
  );
  return new Etcd3({
    hosts,
    ...(tls === undefined ? {} : { credentials: tls }),
    grpcOptions: {
      'grpc.max_receive_message_length': RECEIVE_LIMIT,
      // Finds a connection that a partition or a dead machine has cut without a word.
      'grpc.keepalive_time_ms': 10_000,
      'grpc.keepalive_timeout_ms': 5000,
      'grpc.initial_reconnect_backoff_ms': 200,
      'grpc.max_reconnect_backoff_ms': 5000,
    },
    defaultCallOptions: ({ isStream }) => ({
      interceptors: [requireLeader, ...interceptors],
      ...(isStream ? {} : { deadline: wallClockMs() + REQUEST_TIMEOUT_MS }),
    }),
    faultHandling: { global: passThrough, host: avoidFailing(hosts.length) },
  });
}
