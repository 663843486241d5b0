/**
 * Addresses that no Service may claim and no endpoint may have: what the API server's ValidateNonSpecialIP refuses, here
 * for load balancers' addresses, too, and for what comes from files. Addresses of the node itself are not among them: an
 * external IP is often one, and so is an endpoint on the host network.
 */
const kinds: readonly (readonly [pattern: RegExp, what: string])[] = [
  [/^(0\.|::$)/, 'is unspecified'],
  [/^(127\.|::1$)/, 'is a loopback address'],
  [/^(169\.254\.|fe[89ab][0-9a-f]:)/, 'is link-local'],
  [/^(22[4-9]\.|23\d\.|ff[0-9a-f]{2}:)/, 'is a multicast address'],
  [/^255\.255\.255\.255$/, 'is the broadcast address'],
  [/^::ffff:/, 'is an IPv4 address written as an IPv6 one'],
];

/** Nearly no address is one of them, which one look tells: there are tens of thousands. */
const anyKind = new RegExp(kinds.map(([pattern]) => pattern.source).join('|'));

/** Why the address cannot be used; undefined when it can. @param text canonical */
export function specialAddress(text: string): string | undefined {
  return anyKind.test(text) ? kinds.find(([pattern]) => pattern.test(text))?.[1] : undefined;
}
