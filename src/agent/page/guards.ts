import { isIP } from 'node:net';

/**
 * The name in a Host header: without the port, and without the brackets of an IPv6 address (RFC 9110, section 7.2).
 * Undefined where there is none.
 */
export function hostName(header: string | undefined): string | undefined {
  const [, bracketed, plain] =
    /^(?:\[([0-9a-f:.]+)\]|([^:[\]/@\s]+))(?::\d{1,5})?$/i.exec(header ?? '') ?? [];
  return (bracketed ?? plain)?.toLowerCase().replace(/\.$/, '');
}

/**
 * Whether a browser that asks has been told this name by somebody who may say it. A page of a stranger can have its own name
 * lead to this address once it is loaded (DNS rebinding), and would be let read ours; it cannot do that with an address, nor
 * with a name that is not its own.
 */
export function isOwnHost(header: string | undefined, names: readonly string[]): boolean {
  const name = hostName(header);
  if (name === undefined) return false;
  return isIP(name) !== 0 || name === 'localhost' || names.some((one) => one.toLowerCase() === name);
}

/**
 * Whether it is asked for by another site's page (Fetch metadata). Those that a browser shows, or that no browser asks for,
 * may be: they bring nothing about, and nobody but who looks sees them.
 */
export function isForeign(site: string | undefined, path: string): boolean {
  if (site === undefined || site === 'same-origin' || site === 'none') return false;
  return path !== '/';
}

/**
 * What a browser is told about every answer: it runs and loads nothing that does not come from here, shows it in no frame of
 * another page, makes no script of text, and lets nobody else read it.
 */
export const headers: Readonly<Record<string, string>> = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'referrer-policy': 'no-referrer',
  'cross-origin-resource-policy': 'same-origin',
  'cross-origin-opener-policy': 'same-origin',
  'cache-control': 'no-store',
};
