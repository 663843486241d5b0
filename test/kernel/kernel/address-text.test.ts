import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Address, type Family, families, ipv6, makeAddress } from '../../../src/model/address.ts';
import { type Namespace, withNamespace } from '../../lab/namespace.ts';
import { seeded } from '../../lab/random.ts';

const SEED = 20_260_801;
const RANDOM = 300;

/** Runs of zeros in every place and of every length, what embeds an IPv4 address, and addresses of random bits. */
function addresses(family: Family): Address[] {
  const random = seeded(SEED);
  const word = (): bigint => BigInt(1 + random(0xffff));
  const values = new Set<bigint>();
  const put = (words: readonly bigint[]): void => {
    values.add(words.reduce((sum, one) => (sum << 16n) | one, 0n));
  };
  if (family === ipv6) {
    for (let zeros = 0; zeros < 256; zeros++)
      put(Array.from({ length: 8 }, (_, at) => (zeros & (1 << at) ? 0n : word())));
    const embedding = [
      [0n, 0n, 0n, 0n, 0n, 0xffffn],
      [0n, 0n, 0n, 0n, 0n, 0n],
      [0n, 0n, 0n, 0n, 0xffffn, 0n],
    ];
    for (const start of embedding)
      for (const end of [
        [0n, 1n],
        [1n, 0n],
        [0x7f00n, 1n],
        [0xc000n, 0x201n],
      ])
        put([...start, ...end]);
    put([0x64n, 0xff9bn, 0n, 0n, 0n, 0n, 0xc000n, 0x201n]);
  }
  for (let count = 0; count < RANDOM; count++)
    put(Array.from({ length: family.bits / 16 }, () => word() & BigInt(random(0x1_0000))));
  // The tools refuse rules and routes for these: nothing is sent to them.
  return [...values].filter((value) => value !== 0n).map((value) => makeAddress(family, value));
}

async function iptablesPrints(
  namespace: Namespace,
  variant: string,
  list: readonly Address[],
): Promise<void> {
  const [{ family }] = list as [Address];
  const chain = ':TWILL - [0:0]';
  const target = (text: string): string => (family === ipv6 ? `[${text}]:80` : `${text}:80`);
  // Written without abbreviation, so that the tool's own text is seen.
  const rules = list.map(
    (one) => `-A TWILL -d ${spelt(one)}/${family.bits} -p tcp -j DNAT --to-destination ${target(spelt(one))}`,
  );
  const program = `${family.iptables}-${variant}`;
  await namespace.exec(`${program}-restore`, [], {
    input: ['*nat', chain, ...rules, 'COMMIT', ''].join('\n'),
  });
  const shown = (await namespace.exec(`${program}-save`, ['-t', 'nat']))
    .split('\n')
    .filter((line) => line.startsWith('-A'));
  const ours = list.map(
    ({ text }) => `-A TWILL -d ${text}/${family.bits} -p tcp -j DNAT --to-destination ${target(text)}`,
  );
  assert.deepEqual(shown, ours);
}

/** The address with all its groups. */
function spelt({ family, value, text }: Address): string {
  if (family !== ipv6) return text;
  return value.toString(16).padStart(32, '0').match(/.{4}/g)!.join(':');
}

for (const family of families) {
  for (const variant of ['nft', 'legacy'])
    test(`addresses are printed as ${family.iptables}-${variant}-save prints them`, () =>
      withNamespace('text', (namespace) => iptablesPrints(namespace, variant, addresses(family))));

  test(`addresses are printed as nft prints them: ${family.name}`, () =>
    withNamespace('text', async (namespace) => {
      const list = addresses(family);
      const rules = list.map((one) => `\t\t${family.nft} daddr ${spelt(one)} accept`);
      const input = `table ${family.nft} t {\n\tchain c {\n${rules.join('\n')}\n\t}\n}\n`;
      await namespace.exec('nft', ['-f', '-'], { input });
      const shown = (await namespace.exec('nft', ['list', 'table', family.nft, 't'])).match(/daddr \S+/g);
      assert.deepEqual(
        shown,
        list.map(({ text }) => `daddr ${text}`),
      );
    }));

  test(`addresses are printed as ip prints them: ${family.name}`, () =>
    withNamespace('text', async (namespace) => {
      const list = addresses(family);
      // On a loopback device every neighbour would be 0.0.0.0.
      await namespace.ip('link add d0 type veth peer name d1', 'link set d0 up');
      await namespace.ip(
        ...list.map((one) => `neigh add ${spelt(one)} lladdr 02:00:00:00:00:01 dev d0 nud permanent`),
      );
      const shown = (await namespace.ip('neigh show dev d0 nud permanent'))
        .split('\n')
        .map((line) => line.split(' ')[0]);
      assert.deepEqual(shown.filter(Boolean).sort(), list.map(({ text }) => text).sort());
    }));
}
