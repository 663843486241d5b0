import assert from 'node:assert/strict';
import { constants } from 'node:os';
import { test } from 'node:test';
import pino from 'pino';
import { kernelError } from '../../../src/kernel/errno.ts';
import { parseAttributes } from '../../../src/kernel/netlink/codec.ts';
import { type NftTable, openNftTable } from '../../../src/kernel/nft-table.ts';
import { type Family, families, ipv4, ipv6 } from '../../../src/model/address.ts';
import { type Chain, pickChain, shapeChain } from '../../../src/services/nftables/plan/chains.ts';
import { chainDocument, declarations } from '../../../src/services/nftables/plan/document.ts';
import { tableName } from '../../../src/services/nftables/plan/names.ts';
import type { RenderOptions } from '../../../src/services/nftables/plan/options.ts';
import { type Pick, pickName, type Shape } from '../../../src/services/nftables/plan/shapes.ts';
import { NftRules } from '../../../src/services/nftables/rules.ts';
import type { PodSource } from '../../../src/services/plan/pod-source.ts';
import { type Namespace, withNamespace } from '../../lab/namespace.ts';
import { nftOptionsFor, serviceObject, sliceObject, stateOf } from '../../lab/service-fixtures.ts';

const RULE_EXPRESSIONS = 4;

/** What the kernel has of each chain: the expressions of its rules. */
async function expressions(table: NftTable): Promise<ReadonlyMap<string, readonly string[]>> {
  const chains = await table.chains();
  return new Map(
    chains.map(({ name, rules }) => [
      name,
      rules.map((rule) => parseAttributes(rule).get(RULE_EXPRESSIONS)!.toString('hex')),
    ]),
  );
}

/** Every kind of chain that depends on numbers of endpoints. */
function chainsOf(options: RenderOptions): Chain[] {
  const picks = (['tcp', 'udp', 'sctp'] as const).flatMap((protocol) =>
    (['cluster', 'local'] as const).flatMap((region) =>
      [0, 1, 86_400].map((sticky): Pick => ({ protocol, region, count: 5, sticky })),
    ),
  );
  const one: Pick = { protocol: 'tcp', region: 'cluster', count: 300, sticky: 0 };
  const two: Pick = { ...one, region: 'local', count: 7 };
  const shapes: readonly Shape[] = [
    { kind: 'cluster', pick: one },
    { kind: 'external', pick: one },
    { kind: 'local', here: two, anywhere: one },
    { kind: 'local', here: undefined, anywhere: one },
    { kind: 'local', here: two, anywhere: undefined },
  ];
  return [
    ...[...picks, one, two].map((pick) => pickChain(pickName(pick), pick, options)),
    ...shapes.map((shape) => shapeChain(shape, pickName, options)),
  ];
}

const networks: Readonly<Record<Family['name'], readonly string[]>> = {
  ipv4: ['10.0.0.0/8', '10.244.0.0/15', '10.244.16.0/20', '192.0.2.1/32', '128.0.0.0/1'],
  ipv6: ['fd00:10::/32', 'fd00:244::/56', 'fd00:10:244::/61', 'fd00::1/128', 'fc00::/7'],
};

/** nft 1.0.6 keeps what is remembered where the end of an IPv6 client's address is: there nft is no example. */
const isExample = (family: Family, chain: string): boolean => family === ipv4 || !/-\d+s$/.test(chain);

test('chains that are written without nft are what nft makes of the words', async () => {
  await withNamespace('chains', async ({ name: netns }) => {
    for (const family of families) {
      const sources: readonly (PodSource | undefined)[] = [
        undefined,
        ...networks[family.name].map((network) => ({ network })),
        { device: 'cni0' },
        { device: 'fifteen-letters' },
        { device: 'cali+' },
        // Everything is a pod's.
        { network: family === ipv4 ? '0.0.0.0/0' : '::/0' },
        { device: '+' },
      ];
      const table = openNftTable(family, tableName, netns);
      for (const [index, fromPod] of sources.entries()) {
        const options = nftOptionsFor(family, { fromPod, masqueradeAll: index === 1 });
        const chains = chainsOf(options).filter(({ name }) => isExample(family, name));
        const words = chains.flatMap((chain) => chainDocument(family.nft, chain, false));
        await table.apply(`${[...declarations(family.nft), ...words].join('\n')}\n`);
        const wanted = await expressions(table);
        await table.apply(`delete table ${family.nft} ${tableName}\n`);
        await table.apply(`${declarations(family.nft).join('\n')}\n`);
        // Twice: they take the place of those that stand.
        for (let turn = 0; turn < 2; turn++)
          await table.write(chains.map(({ name, programs }) => ({ chain: name, rules: programs! })));
        assert.deepEqual(await expressions(table), wanted, JSON.stringify(fromPod));
        await table.apply(`delete table ${family.nft} ${tableName}\n`);
      }
      table.close();
    }
  });
});

/** A Service with so many endpoints. */
function counted(
  name: string,
  index: number,
  endpoints: number,
  spec: object = {},
): ReturnType<typeof stateOf> {
  const ips = Array.from({ length: endpoints }, (_, at) => ({
    ip: `10.244.${1 + (at >> 8)}.${at & 255}`,
    node: at % 2 === 0 ? 'node-a' : 'node-b',
  }));
  return stateOf(
    serviceObject(`ns/${name}`, { clusterIP: `10.96.0.${index}`, ports: [{ name: 'p', port: 80 }], ...spec }),
    sliceObject(`ns/${name}`, [{ name: 'p', port: 8080 }], ips),
  );
}

/** Rules, and how many documents they have given to nft. */
function counting(namespace: Namespace) {
  const table = openNftTable(ipv4, tableName, namespace.name);
  const counts = { documents: 0 };
  const apply = (document: string): Promise<void> => {
    counts.documents++;
    return table.apply(document);
  };
  const counted: NftTable = Object.assign(Object.create(table) as NftTable, { apply });
  const log = pino({ level: 'silent' });
  const rules = new NftRules({ table: counted, render: nftOptionsFor(ipv4), node: { name: 'node-a' }, log });
  return { rules, counts };
}

test('numbers of endpoints that are new, and those that nobody has any more, take no nft', async () => {
  await withNamespace('counts', async (namespace) => {
    const { rules, counts } = counting(namespace);
    await rules.sync([counted('a', 1, 1)], true);
    const first = counts.documents;
    const sticky = {
      sessionAffinity: 'ClientIP',
      sessionAffinityConfig: { clientIP: { timeoutSeconds: 77 } },
    };
    const external = { type: 'LoadBalancer', externalIPs: ['203.0.113.7'], externalTrafficPolicy: 'Local' };
    for (const state of [
      counted('a', 1, 2),
      counted('b', 2, 1000),
      counted('c', 3, 5, sticky),
      counted('d', 4, 6, external),
      counted('a', 1, 0),
    ])
      await rules.sync([state], false);
    const list = async () => await namespace.exec('nft', ['list', 'table', 'ip', tableName]);
    const text = await list();
    for (const chain of ['cluster-tcp-1000', 'pick-tcp-5-77s', 'local-tcp-3-of-6', 'pick-tcp-local-3'])
      assert.match(text, new RegExp(`chain ${chain} \\{\n\t\t\\S`), chain);
    assert.ok(await rules.looksWhole());
    await rules.sync([], true);
    assert.ok(!/chain \S+-tcp-[12] /.test(await list()));
    assert.equal(counts.documents, first);
    assert.ok(await rules.looksWhole());
    // Another process finds all of it right.
    const other = counting(namespace);
    const all = [
      counted('a', 1, 0),
      counted('b', 2, 1000),
      counted('c', 3, 5, sticky),
      counted('d', 4, 6, external),
    ];
    assert.equal((await other.rules.sync(all, true)).transactions, 0);
  });
});

test('hundreds of numbers of endpoints at once are written, and taken over', async () => {
  await withNamespace('many', async (namespace) => {
    const all = Array.from({ length: 250 }, (_, index) => counted(`s${index}`, index, 1 + index));
    await counting(namespace).rules.sync(all, true);
    assert.equal((await counting(namespace).rules.sync(all, true)).transactions, 0);
  });
});

test('chains that nft has written once, since the kernel refused them, are written without it later', async () => {
  await withNamespace('again', async ({ name: netns }) => {
    const pick: Pick = { protocol: 'tcp', region: 'cluster', count: 1, sticky: 77 };
    const state = stateOf(
      serviceObject('ns/s', {
        clusterIP: 'fd00:96::1',
        ports: [{ name: 'p', port: 80 }],
        sessionAffinity: 'ClientIP',
        sessionAffinityConfig: { clientIP: { timeoutSeconds: pick.sticky } },
      }),
      sliceObject('ns/s', [{ name: 'p', port: 8080 }], [{ ip: 'fd00:244::1' }]),
    );
    const table = openNftTable(ipv6, tableName, netns);
    const render = nftOptionsFor(ipv6);
    const log = pino({ level: 'silent' });
    let refusals = 0;
    const write: NftTable['write'] = async (changes) => {
      if (refusals === 0 && changes.some((change) => 'chain' in change)) {
        refusals++;
        throw kernelError('change the table', constants.errno.EBUSY);
      }
      return await table.write(changes);
    };
    const hindered: NftTable = Object.assign(Object.create(table) as NftTable, { write });
    await new NftRules({ table: hindered, render, node: { name: 'n' }, log }).sync([state], true);
    assert.equal(refusals, 1);
    const later = new NftRules({ table, render, node: { name: 'n' }, log });
    await later.sync([state], true);
    assert.equal((await later.sync([], true)).transactions, 0);
    const standing = (await expressions(table)).get(pickName(pick));
    const { programs } = pickChain(pickName(pick), pick, render);
    await table.write([{ chain: 'example', rules: programs! }]);
    assert.deepEqual(standing, (await expressions(table)).get('example'));
    table.close();
  });
});

test('more kinds of Services than fit one transaction are written, taken over, and go', async () => {
  await withNamespace('kinds', async (namespace) => {
    const all = Array.from({ length: 1700 }, (_, index) => {
      const sessionAffinityConfig = { clientIP: { timeoutSeconds: 1 + index } };
      const spec = { clusterIP: `10.97.${index >> 8}.${index & 255}`, sessionAffinity: 'ClientIP' };
      return counted(`s${index}`, 0, 1, { ...spec, sessionAffinityConfig });
    });
    await counting(namespace).rules.sync(all, true);
    const other = counting(namespace).rules;
    assert.equal((await other.sync(all, true)).transactions, 0);
    // All of them go at once.
    await other.sync(
      all.slice(1).map(([key]) => [key, { service: undefined, slices: [] }] as const),
      true,
    );
    assert.equal(other.desired.chains.filter(({ hook }) => hook === undefined).length, 5);
    assert.ok(await other.looksWhole());
  });
});

/** A load balancer's Service that these may use. */
function ranged(ranges: readonly string[]): ReturnType<typeof stateOf> {
  return stateOf(
    serviceObject(
      'ns/ranged',
      {
        type: 'LoadBalancer',
        clusterIP: '10.96.0.9',
        loadBalancerSourceRanges: ranges,
        ports: [{ name: 'p', port: 80 }],
      },
      { status: { loadBalancer: { ingress: [{ ip: '203.0.113.9' }] } } },
    ),
    sliceObject('ns/ranged', [{ name: 'p', port: 8080 }], [{ ip: '10.244.9.9' }]),
  );
}

test('source ranges that hold each other, twice the same, with host bits, and ten thousand of them', async () => {
  await withNamespace('ranges', async (namespace) => {
    const { rules } = counting(namespace);
    const sources = async () =>
      [
        ...(await namespace.exec('nft', ['list', 'set', 'ip', tableName, 'sources'])).matchAll(
          /tcp \. 80 \. ([^ ,]+)/g,
        ),
      ]
        .map(([, range]) => range)
        .sort();
    await rules.sync(
      [
        ranged([
          '10.1.2.3/8',
          '10.0.0.0/9',
          '10.0.0.0/8',
          '192.0.2.1/32',
          '192.0.2.0/31',
          '9.255.255.0/24',
          '11.0.0.0/8',
        ]),
      ],
      true,
    );
    // The node is among them, and so the address that it holds itself.
    assert.deepEqual(await sources(), [
      '10.0.0.0/8',
      '11.0.0.0/8',
      '192.0.2.0/31',
      '203.0.113.9',
      '9.255.255.0/24',
    ]);
    await rules.sync([ranged(['10.0.0.0/9', '10.128.0.0/9'])], false);
    assert.deepEqual(await sources(), ['10.0.0.0/9', '10.128.0.0/9']);
    const many = Array.from({ length: 10_000 }, (_, index) => `10.${index >> 8}.${index & 255}.0/25`);
    await rules.sync([ranged(many)], false);
    assert.equal(rules.refusals.size, 0);
    assert.equal((await sources()).length, 10_000);
    await rules.sync([ranged(['0.0.0.0/1', '128.0.0.0/1'])], false);
    assert.deepEqual(await sources(), ['0.0.0.0/1', '128.0.0.0/1']);
  });
});
