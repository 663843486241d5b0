import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import pino from 'pino';
import { parseAttributes } from '../../../src/kernel/netlink/codec.ts';
import { openNftTable } from '../../../src/kernel/nft-table.ts';
import { type Family, ipv4, ipv6 } from '../../../src/model/address.ts';
import { tableName } from '../../../src/services/nftables/plan/names.ts';
import { nftablesLacks } from '../../../src/services/nftables/probe.ts';
import { NftRules } from '../../../src/services/nftables/rules.ts';
import { readStanding } from '../../../src/services/nftables/standing-rules.ts';
import { NftWatch } from '../../../src/services/nftables/watch.ts';
import { type Namespace, withNamespace } from '../../lab/namespace.ts';
import { noDrawnNumbers, whileNftLacks } from '../../lab/refusing-nft.ts';
import { serviceCases } from '../../lab/service-cases.ts';
import { nftOptionsFor, serviceObject, sliceObject, stateOf } from '../../lab/service-fixtures.ts';
import { waitFor } from '../../lab/wait.ts';

const log = pino({ level: 'silent' });

function makeRules(namespace: Namespace, family: Family): NftRules {
  return new NftRules({
    table: openNftTable(family, tableName, namespace.name),
    render: nftOptionsFor(family),
    node: { name: 'node-a', zone: 'zone-a' },
    log,
  });
}

const goldens = join(import.meta.dirname, '../../../../test/golden/services/nftables');

/** What stands, each element and rule a line, in the order of the alphabet: sets have none of their own. */
async function elements(namespace: Namespace, family: Family): Promise<string[]> {
  const text = await standing(namespace, family);
  let where = '';
  return (
    text
      .split(/\n|, (?=\S)/)
      .map((line) => line.trim().replace(/^elements = \{ | \}$|,$/g, ''))
      // Chains are in the order in which they were made.
      .filter((line) => line !== '}')
      .map((line) => {
        if (/^(set|map|chain) /.test(line)) where = line;
        return `${where} ${line}`;
      })
      // What the kernel calls rules, which is another name each time they are written.
      .filter((line) => !line.startsWith('set stamps'))
      .sort()
  );
}

/** What stands, in nft's words. */
async function standing(namespace: Namespace, family: Family): Promise<string> {
  return await namespace.exec('nft', ['-s', 'list', 'table', family.nft, tableName]);
}

const RULE_EXPRESSIONS = 4;

/** What stands, as the kernel has it: elements, and the expressions of each chain's rules. */
async function forKernel(namespace: Namespace, family: Family): Promise<object> {
  const table = openNftTable(family, tableName, namespace.name);
  const chains = (await table.chains()).map(({ name, hook, rules }) => [
    name,
    [hook, ...rules.map((rule) => parseAttributes(rule).get(RULE_EXPRESSIONS)!.toString('hex'))],
  ]);
  const { elements, shapes } = await readStanding(table);
  table.close();
  return { chains: Object.fromEntries(chains), elements, shapes };
}

describe('nftables', () => {
  for (const family of [ipv4, ipv6]) {
    test(`takes every kind of Service in ${family.kubeName}, and a new proxy finds nothing to change`, async () => {
      await withNamespace('nft', async (namespace) => {
        for (const { name, states } of serviceCases) {
          await makeRules(namespace, family).sync(states, true);
          const text = await standing(namespace, family);
          const again = await makeRules(namespace, family).sync(states, true);
          assert.deepEqual([name, again.bytes, again.transactions], [name, 0, 0]);
          assert.equal(await standing(namespace, family), text);
          // What an operator saves can be loaded again.
          await namespace.exec('nft', ['-c', '-f', '-'], { input: text });
        }
      });
    });

    test(`what is written in ${family.kubeName} is what nft makes of the document`, async () => {
      await withNamespace('nft', async (namespace) => {
        for (const { name, states } of serviceCases) {
          const golden = join(goldens, `${name}.${family.name}.golden`);
          if (!existsSync(golden)) continue;
          const table = `${family.nft} ${tableName}`;
          await makeRules(namespace, family).sync(states, true);
          await namespace.exec('nft', ['flush', 'set', ...table.split(' '), 'stamps']);
          const written = await elements(namespace, family);
          await namespace.exec('nft', ['delete', 'table', ...table.split(' ')]);
          await namespace.exec('nft', ['-f', golden]);
          assert.deepEqual(written, await elements(namespace, family), name);
          await namespace.exec('nft', ['delete', 'table', ...table.split(' ')]);
        }
      });
    });
  }
});

test('an nft that takes no drawn number as a part of a key, as 1.0.2, makes the same rules', async () => {
  await withNamespace('nft', async (namespace) => {
    const states = serviceCases.flatMap(({ states: some }) => some);
    for (const family of [ipv4, ipv6]) {
      await makeRules(namespace, family).sync(states, true);
      const before = await forKernel(namespace, family);
      await namespace.exec('nft', ['delete', 'table', family.nft, tableName]);
      await whileNftLacks({ ...noDrawnNumbers, netns: namespace.name }, async () => {
        await makeRules(namespace, family).sync(states, true);
        // Not because the table was made anew: that is tried with such an nft, too.
        assert.deepEqual(await nftablesLacks(family), []);
      });
      assert.deepEqual(await forKernel(namespace, family), before);
      assert.equal((await makeRules(namespace, family).sync(states, true)).transactions, 0);
    }
  });
});

test('a table of ours that cannot become as it should be is made anew', async () => {
  await withNamespace('nft', async (namespace) => {
    const other = `table ip ${tableName} {
      map services { type mark : mark; }
      chain services { }
      chain mine { type filter hook input priority 0; meta mark 1 goto services; }
    }`;
    await namespace.exec('nft', ['-f', '-'], { input: other });
    const { states } = serviceCases.find(({ name }) => name === 'node-port')!;
    await makeRules(namespace, ipv4).sync(states, true);
    assert.doesNotMatch(await standing(namespace, ipv4), /mine|mark : mark/);
    assert.equal((await makeRules(namespace, ipv4).sync(states, true)).transactions, 0);
  });
});

test('a table of our name that is another program’s alone is named as that, and ours once that program has ended', async () => {
  await withNamespace('nft', async (namespace) => {
    const { states } = serviceCases.find(({ name }) => name === 'node-port')!;
    const owner = namespace.spawn('nft', ['-i'], { stdio: ['pipe', 'ignore', 'ignore'] });
    owner.stdin!.write(`add table ip ${tableName} { flags owner; }\n`);
    const rules = makeRules(namespace, ipv4);
    const tables = () => namespace.exec('nft', ['list', 'tables']);
    await waitFor('the table', async () => (await tables()).includes(tableName));
    await assert.rejects(rules.sync(states, true), {
      code: 'conflict',
      message: /^nftables table ip twill-services has flags owner: [^\n]* end that program/,
    });
    owner.stdin!.end();
    await waitFor('the table to go', async () => !(await tables()).includes(tableName));
    assert.ok((await rules.sync(states, true)).transactions > 0);
  });
});

/** A load balancer's Service that only one network may use. */
function ranged(range: string): ReturnType<typeof stateOf> {
  return stateOf(
    serviceObject(
      'shop/ranged',
      {
        type: 'LoadBalancer',
        clusterIP: '10.96.0.9',
        loadBalancerSourceRanges: [range],
        ports: [{ name: 'http', port: 80 }],
      },
      { status: { loadBalancer: { ingress: [{ ip: '203.0.113.9' }] } } },
    ),
    sliceObject('shop/ranged', [{ name: 'http', port: 8080 }], [{ ip: '10.244.9.9' }]),
  );
}

function plain(index: number): ReturnType<typeof stateOf> {
  const name = `shop/plain-${index}`;
  const clusterIP = `10.96.${1 + (index >> 8)}.${index & 255}`;
  return stateOf(
    serviceObject(name, { clusterIP, ports: [{ name: 'http', port: 80 }] }),
    sliceObject(name, [{ name: 'http', port: 8080 }], [{ ip: '10.244.9.8' }]),
  );
}

test('a source range gives way to one that overlaps it, in the midst of a thousand other changes', async () => {
  await withNamespace('nft', async (namespace) => {
    const rules = makeRules(namespace, ipv4);
    await rules.sync([ranged('10.0.0.0/8')], true);
    const others = (from: number) => Array.from({ length: 400 }, (_, index) => plain(from + index));
    const sources = () => namespace.exec('nft', ['list', 'set', 'ip', tableName, 'sources']);
    assert.match(await sources(), /10\.0\.0\.0\/8/);
    const { transactions } = await rules.sync([...others(0), ranged('10.0.0.0/9')], false);
    assert.ok(transactions > 1);
    assert.match(await sources(), /10\.0\.0\.0\/9/);
    await makeRules(namespace, ipv4).sync([...others(400), ranged('10.0.0.0/8')], true);
    assert.match(await sources(), /10\.0\.0\.0\/8/);
  });
});

test('what the kernel refuses is named with its Service, and the others are served', async () => {
  await withNamespace('nft', async (namespace) => {
    // A set that is full after two.
    await namespace.exec('nft', [
      `add table ip ${tableName}; add map ip ${tableName} services { type ipv4_addr . inet_proto . inet_service : classid; size 2; }`,
    ]);
    const rules = makeRules(namespace, ipv4);
    await rules.sync(
      Array.from({ length: 5 }, (_, index) => plain(index)),
      true,
    );
    assert.equal(rules.refusals.size, 3);
    for (const reason of rules.refusals.values())
      assert.match(reason, /ENFILE: element 10\.96\.1\.\d \. tcp \. 80 of services/);
    const text = await standing(namespace, ipv4);
    assert.equal(text.match(/comment "shop\/plain-\d:http"/g)?.length, 2);
    assert.match(text, /chain nat-prerouting/);
  });
});

/** Rules with a watch over them, and what it has asked for. */
async function watched(namespace: Namespace) {
  const table = openNftTable(ipv4, tableName, namespace.name);
  const rules = new NftRules({ table, render: nftOptionsFor(ipv4), node: { name: 'node-a' }, log });
  const { states } = serviceCases.find(({ name }) => name === 'node-port')!;
  await rules.sync(states, true);
  const repairs: boolean[] = [];
  let busy = false;
  const hooks = { busy: () => busy, wait: () => 0, repair: (broken: boolean) => repairs.push(broken), log };
  const watch = new NftWatch(table, () => rules.looksWhole(), hooks);
  watch.start();
  /** As the proxy does: nobody looks meanwhile. */
  const sync: NftRules['sync'] = async (...given) => {
    busy = true;
    try {
      return await rules.sync(...given);
    } finally {
      busy = false;
    }
  };
  return { sync, repairs, watch, states };
}

const services = ['ip', tableName, 'services'];
const element = `${services.join(' ')} { 10.96.0.10 . tcp . 80 }`;
const shape = `ip ${tableName} shapes { 0:1 }`;
const harms: readonly (readonly [what: string, ...command: string[]])[] = [
  ['an element is deleted', 'delete', 'element', ...services, '{', '10.96.0.10', '.', 'tcp', '.', '80', '}'],
  ['a map is flushed', 'flush', 'map', 'ip', tableName, 'endpoints-tcp'],
  ['a rule comes', 'insert', 'rule', 'ip', tableName, 'services', 'drop'],
  ['a chain is flushed', 'flush', 'chain', 'ip', tableName, 'nat-prerouting'],
  ['a base chain comes', 'add', 'chain', 'ip', tableName, 'x', '{ type filter hook input priority 0; }'],
  ['the shapes are flushed', 'flush', 'map', 'ip', tableName, 'shapes'],
  ['a shape refuses', `delete element ${shape}; add element ${shape.replace(' }', ' : drop }')}`],
  ['a chain for a number of endpoints is flushed', 'flush', 'chain', 'ip', tableName, 'pick-tcp-2'],
  ['what was written is forgotten', 'flush', 'set', 'ip', tableName, 'stamps'],
  ['an element for all other keys comes', 'add', 'element', ...services, '{ * : 0:1 }'],
  [
    'an element leads elsewhere',
    `delete element ${element}; add element ${element.replace(' }', ' : 0:2001 }')}`,
  ],
  ['a chain drops what it does not know', 'chain', 'ip', tableName, 'filter-forward', '{ policy drop; }'],
  ['the table sleeps', 'add', 'table', 'ip', tableName, '{ flags dormant; }'],
  ['the table is deleted', 'delete', 'table', 'ip', tableName],
  ['everything is flushed', 'flush', 'ruleset'],
];

test('others’ changes of the table are noticed and put right, each; changes of other tables, and our own, are not', async () => {
  await withNamespace('nft', async (namespace) => {
    const { sync, repairs, watch, states } = await watched(namespace);
    try {
      const stands = await elements(namespace, ipv4);
      for (const [what, ...command] of harms) {
        await namespace.exec('nft', [command.join(' ')]);
        await waitFor(`a repair after ${what}`, () => repairs.length > 0);
        await sync([], true);
        assert.deepEqual(await elements(namespace, ipv4), stands, what);
        // The repair itself is heard of, too, where nft has made it.
        await waitFor('the watch to be quiet', async () => {
          repairs.length = 0;
          await sleep(200);
          return repairs.length === 0;
        });
      }
      const [[key]] = states as [(typeof states)[number]];
      await namespace.exec('nft', ['add table ip other; add chain ip other x; add table ip6 twill-services']);
      await sync([[key, { service: undefined, slices: [] }]], false);
      await sync(states, false);
      await sleep(300);
      assert.deepEqual(repairs, []);
    } finally {
      watch.stop();
    }
  });
});
