import {
  EtcdAuthenticationFailedError,
  EtcdInvalidAuthTokenError,
  EtcdLeaseInvalidError,
  EtcdPermissionDeniedError,
  GRPCUnauthenticatedError,
} from 'etcd3';
import { isTwillError, TwillError } from '../../model/error.ts';

const says = (error: unknown, what: RegExp): boolean => error instanceof Error && what.test(error.message);

/** gRPC's word for an answer that is bigger than what is read: the member is well, and so is the request. */
export const isTooBig = (error: unknown): boolean => says(error, /larger than max/i);

/**
 * The token does not count any more (etcd's client/v3/retry_interceptor.go, shouldRefreshToken): it ran out, was forgotten
 * with a restart, or, where it is signed, was made before the last change of any user or role. Or there is none, and
 * etcd has begun to ask for one.
 */
export const isStaleToken = (error: unknown): boolean =>
  says(error, /etcdserver: (invalid auth token|revision of auth store is old|user name is empty)/);

/** A name and a password are no use: etcd takes requests from everybody. */
export const asksForNobody = (error: unknown): boolean => says(error, /authentication is not enabled/);

/** What to do about some of the answers by which etcd refuses. */
const advice: readonly (readonly [RegExp, string])[] = [
  [
    /database space exceeded/,
    'it is full: compact and defragment it, or raise its --quota-backend-bytes, then run etcdctl alarm disarm',
  ],
  [/etcdserver: corrupt/, 'its members do not hold the same: restore the one that differs'],
];

function refusal(where: string, cause: unknown): string {
  const [, what] = advice.find(([answer]) => says(cause, answer)) ?? [];
  if (what !== undefined) return `etcd at ${where} refuses: ${what}`;
  return says(cause, /etcdserver: /) ? `etcd at ${where} cannot now` : `etcd at ${where} does not answer`;
}

/** Translates what etcd3 throws; `exhausted` is an answer that is bigger than what is read. */
export function etcdError(what: string, endpoints: readonly string[], cause: unknown): TwillError {
  if (isTwillError(cause)) return cause;
  const where = endpoints.join(', ');
  if (isTooBig(cause)) return new TwillError('exhausted', `${what}: the answer is too big`, cause);
  if (says(cause, /required revision (has been compacted|is a future revision)/))
    return new TwillError('not-found', `${what}: etcd does not know that revision`, cause);
  if (cause instanceof EtcdLeaseInvalidError)
    return new TwillError('not-found', `${what}: the lease is gone`, cause);
  if (says(cause, /user name is empty/))
    return new TwillError(
      'permission',
      `${what}: etcd at ${where} asks who we are: give --etcd-username and --etcd-password-file, or the certificate of a user`,
      cause,
    );
  if (
    isStaleToken(cause) ||
    cause instanceof EtcdAuthenticationFailedError ||
    cause instanceof EtcdInvalidAuthTokenError ||
    cause instanceof EtcdPermissionDeniedError ||
    cause instanceof GRPCUnauthenticatedError
  ) {
    return new TwillError(
      'permission',
      `${what}: etcd at ${where} refuses --etcd-username or its role`,
      cause,
    );
  }
  return new TwillError('unavailable', `${what}: ${refusal(where, cause)}`, cause);
}
