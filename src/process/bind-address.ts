import { ipv4, tryParseAddress } from '../model/address.ts';
import { TwillError } from '../model/error.ts';

/** Where to listen. */
export interface BindAddress {
  /** Undefined for every address of both families. */
  readonly host: string | undefined;
  readonly port: number;
  /** As people write it, with the port. */
  readonly text: string;
}

/** `0.0.0.0` is every address of both families, as `::` and nothing are: Go listens so, and probes may come over either. */
const everywhere = new Set(['', '0.0.0.0', '::']);

/**
 * Splits `IP:PORT`, `[IPv6]:PORT`, `:PORT`, and an IP or a port alone.
 * @param usualPort for an address without one; undefined where it must have one
 * @throws TwillError `invalid`
 */
export function parseBindAddress(text: string, usualPort?: number): BindAddress {
  const alone = usualPort === undefined ? undefined : tryParseAddress(text);
  const whole = alone === undefined ? text : `${alone.family === ipv4 ? text : `[${text}]`}:${usualPort}`;
  const [, v6, v4, beside, only] = /^(?:\[([^\]]+)\]|([^:[\]]*)):(\d{1,5})$|^(\d{1,5})$/.exec(whole) ?? [];
  const host = v6 ?? v4 ?? '';
  const port = Number(beside ?? only ?? Number.NaN);
  if (!(port > 0 && port <= 65_535) || (host !== '' && tryParseAddress(host) === undefined))
    throw new TwillError('invalid', `'${text}' is not an address of the form IP:PORT, [IPv6]:PORT or :PORT`);
  return {
    host: everywhere.has(host) ? undefined : host,
    port,
    text: only === undefined ? whole : `:${only}`,
  };
}
