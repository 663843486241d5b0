/** Random lease keys and values: near to right ones, far from them, and made to get out of a line. */
export type Random = (below: number) => number;

const pick = <T>(random: Random, list: readonly T[]): T => list[random(list.length)]!;

const byte = (random: Random): string => random(256).toString(16).padStart(2, '0');

/** Ends lines, forges them, and turns terminals about. */
export const injections = [
  '\n12:00:00.000 ERROR forged by a lease',
  '\r\n[-] forged: check',
  '\u001b[2J\u001b[31mred',
  '\u0000\u0007\u009b31m',
  '\u2028\u2029\u202eeurt',
  '"}\n{"level":60,"msg":"forged"}',
  '__proto__',
  '%s%n%$(reboot)`reboot`',
];

function address(random: Random): string {
  return pick(random, [
    () => `10.244.${random(256)}.${random(256)}`,
    () => `192.0.2.${random(256)}`,
    () => `${random(256)}.${random(256)}.${random(256)}.${random(256)}`,
    () => '127.0.0.1',
    () => '0.0.0.0',
    () => `fd00:244:0:${random(65_536).toString(16)}::`,
    () => '::ffff:192.0.2.1',
    () => `${random(999)}.${random(999)}`,
  ])();
}

/** Puts something where nobody expects it. */
function spoil(random: Random, text: string): string {
  const at = random(text.length + 1);
  return pick(random, [
    () => text,
    () => text,
    () => text.slice(0, at),
    () => text.slice(0, at) + pick(random, injections) + text.slice(at),
    () => text.slice(0, at) + String.fromCodePoint(random(0xd7ff)) + text.slice(at + 1),
    () => text + text,
  ])();
}

/** The last part of a key in etcd. Never empty. */
export function fuzzName(random: Random): string {
  const part = (): string => `${address(random)}-${random(40)}`;
  const name = pick(random, [
    () => `10.244.${random(256)}.0-24`,
    () => `10.244.${random(256)}.0-24&fd00:244:0:${random(99)}::-64`,
    part,
    () => `${part()}&${part()}`,
    () => pick(random, injections),
    () => 'x'.repeat(random(20_000)),
  ])();
  return spoil(random, name) || 'empty';
}

function odd(random: Random, depth = 0): unknown {
  return pick<() => unknown>(random, [
    () => null,
    () => random(2) === 0,
    () => pick(random, [-1, 0, 1.5, 2 ** 31, 2 ** 53, 1e308, Number.NaN]),
    () => pick(random, injections),
    () => 'y'.repeat(random(9000)),
    () => address(random),
    () => (depth > 3 ? [] : Array.from({ length: random(4) }, () => odd(random, depth + 1))),
    () =>
      depth > 3
        ? {}
        : { [pick(random, injections)]: odd(random, depth + 1), VtepMAC: odd(random, depth + 1) },
  ])();
}

/** A MAC address, or nearly. */
export function fuzzMac(random: Random): string {
  const mac = Array.from({ length: 6 }, () => byte(random)).join(':');
  return spoil(random, random(2) === 0 ? `02${mac.slice(2)}` : mac);
}

/** The JSON of a lease, or nearly. */
export function fuzzValue(random: Random): string {
  const usually = <T>(right: () => T): unknown => (random(4) === 0 ? odd(random) : right());
  const data = (): unknown => ({ VNI: usually(() => 1), VtepMAC: usually(() => fuzzMac(random)) });
  const lease: Record<string, unknown> = {
    PublicIP: usually(() => address(random)),
    PublicIPv6: usually(() => null),
    BackendType: usually(() => pick(random, ['vxlan', 'vxlan', 'host-gw', 'alloc', 'wireguard'])),
    BackendData: usually(data),
    BackendV6Data: usually(data),
  };
  for (const field of Object.keys(lease)) if (random(10) === 0) delete lease[field];
  return pick(random, [
    () => JSON.stringify(lease),
    () => JSON.stringify(lease),
    () => spoil(random, JSON.stringify(lease)),
    () => JSON.stringify(odd(random)) ?? '',
    () => '['.repeat(random(8000)),
    () => `{"a":${'9'.repeat(random(5000))}}`,
    () => pick(random, injections),
  ])();
}
