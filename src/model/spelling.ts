import { foldName } from './go-json.ts';

/** Whether one letter more, less, other or changed with its neighbour makes one text of the other. */
function isOneEdit(a: string, b: string): boolean {
  if (Math.abs(a.length - b.length) > 1 || a === b) return false;
  let start = 0;
  while (start < a.length && a[start] === b[start]) start++;
  let end = 0;
  while (end < Math.min(a.length, b.length) - start && a.at(-1 - end) === b.at(-1 - end)) end++;
  const [left, right] = [a.slice(start, a.length - end), b.slice(start, b.length - end)];
  if (left.length <= 1 && right.length <= 1) return true;
  return left.length === 2 && right.length === 2 && left[0] === right[1] && left[1] === right[0];
}

/** The known name that a name was probably meant to be; undefined for a known one, and for one that is like none. */
export function meantName(name: string, known: readonly string[]): string | undefined {
  const folded = foldName(name);
  if (known.some((one) => foldName(one) === folded)) return undefined;
  return known.find((one) => isOneEdit(folded, foldName(one)));
}

const MOST_NAMES = 5;

/** A host's name without its domain. */
function host(name: string): string {
  return name.toLowerCase().split('.')[0]!;
}

/**
 * Names of hosts that may be meant by one that is none of them: with another domain, in another case, one letter off.
 * @returns a few, those first that differ least
 */
export function likeHosts(name: string, known: readonly string[]): string[] {
  const same = known.filter((one) => host(one) === host(name)).sort();
  const near = known.filter((one) => isOneEdit(host(one), host(name))).sort();
  return [...same, ...near].slice(0, MOST_NAMES);
}
