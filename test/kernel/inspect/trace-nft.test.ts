import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { TraceAnswer } from '../../../src/inspect/trace/plan/answer.ts';
import { twillProgram } from '../../lab/files.ts';
import type { LabNode } from '../../lab/node.ts';
import type { Place } from '../../lab/place.ts';
import { ServiceLab } from '../../lab/service-lab.ts';
import { endings, trace } from '../../lab/trace.ts';
import { patient, reach } from '../../lab/trace-lab.ts';

let services: ServiceLab;
let node: LabNode;
let client: Place;
let near: Place;
let far: Place;

before(async () => {
  services = await ServiceLab.start();
  const [first, other] = services.lab.nodes as [LabNode, LabNode];
  node = first;
  client = await services.addServer(node, 'client');
  near = await services.addServer(node, 'near');
  far = await services.addServer(other, 'far');
});
after(() => services?.stop());

/** Runs `work` while rules stand, and takes them away. Commands of nft, one a line; `TABLE` is the table's name. */
async function withRules(family: string, lines: readonly string[], work: () => Promise<void>): Promise<void> {
  const table = `${family} lab`;
  const document = [`add table ${table}`, ...lines].join('\n').replaceAll('TABLE', table);
  await node.exec('nft', ['-f', '-'], { input: `${document}\n` });
  try {
    await work();
  } finally {
    await node.exec('nft', ['delete', 'table', ...table.split(' ')]);
  }
}

/** A Service's number in the packet's priority leads from map to map, as the proxy has it. */
const numbered = [
  'add map TABLE services { type ipv4_addr . inet_proto . inet_service : classid; }',
  'add map TABLE shapes { type classid : verdict; }',
  'add map TABLE endpoints { typeof meta priority . numgen random mod 2 : ip daddr . tcp dport; }',
  'add set TABLE none { type ipv4_addr . inet_proto . inet_service; }',
  'add set TABLE hairpin { type ipv4_addr . ipv4_addr; }',
  'add set TABLE sources { type ipv4_addr . inet_proto . inet_service . ipv4_addr; flags interval; }',
  'add counter TABLE refused',
  'add chain TABLE pick',
  'add rule TABLE pick meta l4proto tcp dnat ip to meta priority & 0xfffff000 . numgen random mod 2 map @endpoints',
  'add chain TABLE cluster',
  'add rule TABLE cluster ip saddr != 10.244.0.0/16 meta mark set meta mark | 0x4000',
  'add rule TABLE cluster goto pick',
  'add chain TABLE services',
  'add rule TABLE services meta priority set ip daddr . meta l4proto . th dport map @services meta priority & 0x00000fff vmap @shapes',
  'add chain TABLE pre { type nat hook prerouting priority -101; }',
  'add rule TABLE pre jump services',
  'add chain TABLE out { type nat hook output priority -101; }',
  'add rule TABLE out jump services',
  'add chain TABLE fire { type filter hook prerouting priority -110; }',
  'add rule TABLE fire ct state new ip daddr . meta l4proto . th dport . ip saddr @sources counter name "refused" drop',
  'add chain TABLE forward { type filter hook forward priority -110; }',
  'add rule TABLE forward ct state new ip daddr . meta l4proto . th dport @none counter name "refused" reject',
  'add chain TABLE post { type nat hook postrouting priority 100; }',
  'add rule TABLE post ct status dnat ip saddr . ip daddr @hairpin masquerade fully-random',
  'add rule TABLE post meta mark & 0x4000 == 0 return',
  'add rule TABLE post meta mark set meta mark ^ 0x4000',
  'add rule TABLE post masquerade fully-random',
  'add element TABLE services { 10.96.0.10 . tcp . 80 comment "shop/web:http" : 0:1002 }',
  'add element TABLE shapes { 0:2 : goto cluster }',
  'add element TABLE endpoints { 0:1000 . 0 : 10.244.1.3 . 8080, 0:1000 . 1 : 10.244.2.2 . 8080 }',
  'add element TABLE none { 10.96.0.11 . tcp . 80 }',
  'add element TABLE hairpin { 10.244.1.3 . 10.244.1.3 }',
  'add element TABLE sources { 10.96.0.10 . tcp . 80 . 192.0.2.12-192.0.2.15 }',
];

test('maps from a Service to its endpoints, marks and masquerade, as real connections go', async () => {
  await withRules('ip', numbered, async () => {
    const both = [`${near.ipv4}:8080`, `${far.ipv4}:8080`];
    const { answer } = await trace(node, client.ipv4, '10.96.0.10:80');
    assert.deepEqual(endings(answer), both);
    assert.deepEqual(
      answer.ways.map(({ share }) => share),
      ['1/2', '1/2'],
    );
    const lookup = answer.ways[0]!.steps.find(({ chain }) => chain === 'services')!;
    assert.equal(lookup.program, 'nft');
    assert.equal(lookup.table, 'ip lab');
    assert.match(lookup.rule!, /^meta priority set ip daddr \. .* vmap @shapes$/);
    const seen = new Set<string>();
    // By lot: a hundred draws are as good as never all alike.
    for (let turn = 0; turn < 100 && seen.size < 2; turn++)
      seen.add((await reach(client, '10.96.0.10', 80, patient))!.server);
    assert.deepEqual([...seen].sort(), ['far', 'near']);
    const own = await trace(node, near.ipv4, '10.96.0.10:80');
    assert.deepEqual(endings(own.answer), [`${near.ipv4}:8080 masqueraded`, both[1]]);
    const fromNode = await trace(node, 'node', '10.96.0.10:80');
    assert.deepEqual(endings(fromNode.answer), [`${near.ipv4}:8080 masqueraded`, both[1]]);
    const none = await trace(node, client.ipv4, '10.96.0.11:80');
    assert.match(endings(none.answer).join(), /rejected by a rule of chain forward of nft's table ip lab/);
    const kept = await trace(node, '192.0.2.12', '10.96.0.10:80');
    assert.match(endings(kept.answer).join(), /dropped by a rule of chain fire/);
  });
});

/** Rules of others, each of which drops what goes to the far pod. */
const foreign: readonly (readonly [name: string, family: string, rule: string, hook?: string])[] = [
  ['an address and a port', 'ip', 'ip daddr 10.244.2.2 tcp dport 8080 counter drop comment "closed"'],
  ['table inet', 'inet', 'meta nfproto ipv4 tcp dport { 22, 8000-9000 } drop'],
  ['networks', 'ip', 'ip saddr 10.244.1.0/24 ip daddr { 10.244.2.0/24, 10.9.0.0/16 } drop'],
  ['a verdict map', 'ip', 'tcp dport vmap { 80 : accept, 8080 : drop }'],
  ['not a set', 'ip', 'tcp dport != { 80, 443 } drop'],
  ['devices', 'inet', 'iifname "cni*" oifname "eth0" ct state new reject'],
  ['flags', 'inet', 'tcp flags & (fin|syn|rst|ack) == syn drop'],
  ['marks', 'ip', 'meta mark & 0xff == 0 meta l4proto tcp drop'],
  ['the type of an address', 'ip', 'fib saddr type != local drop'],
  ['before translation', 'ip', 'ct original ip daddr 10.244.2.2 drop'],
  ['a concatenation', 'ip', 'ip daddr . tcp dport { 10.244.2.2 . 8080 } drop'],
  ['prerouting', 'ip', 'ip daddr 10.244.2.2 drop', 'filter hook prerouting priority raw'],
  ['answers', 'ip', 'ct state established tcp sport 8080 drop'],
];

test('rules of others, in words of every kind: a real connection dies where they say', async () => {
  for (const [name, family, rule, hook = 'filter hook forward priority filter'] of foreign) {
    const lines = [`add chain TABLE guard { type ${hook}; }`, `add rule TABLE guard ${rule}`];
    await withRules(family, lines, async () => {
      const { answer, status } = await trace(node, client.ipv4, `${far.ipv4}:8080`);
      assert.match(
        endings(answer).join(),
        new RegExp(`(dropped|rejected) by a rule of chain guard of nft's table ${family} lab`),
        name,
      );
      assert.equal(status, 1, name);
      assert.equal(await reach(client, far.ipv4, 8080), undefined, name);
    });
  }
});

test('a policy, a translation to one of several, and what is not understood', async () => {
  await withRules(
    'ip',
    ['add chain TABLE guard { type filter hook forward priority filter; policy drop; }'],
    async () => {
      const { answer } = await trace(node, client.ipv4, `${far.ipv4}:8080`);
      assert.match(endings(answer).join(), /dropped by the policy of chain guard of nft's table ip lab/);
    },
  );
  const spread = [
    'add chain TABLE pre { type nat hook prerouting priority dstnat; }',
    'add rule TABLE pre ip daddr 10.96.0.10 meta l4proto tcp dnat ip to numgen random mod 4 map { 0-2 : 10.244.1.3 . 8080, 3 : 10.244.2.2 . 8080 }',
  ];
  await withRules('ip', spread, async () => {
    const { answer } = await trace(node, client.ipv4, '10.96.0.10:80');
    const share = (address: string): number =>
      answer.ways
        .filter(({ packet }) => packet.destination === address)
        .reduce((sum, way) => sum + way.probability, 0);
    assert.equal(share('10.244.1.3'), 0.75);
    assert.equal(share('10.244.2.2'), 0.25);
  });
  const odd = [
    'add chain TABLE guard { type filter hook forward priority filter; }',
    'add rule TABLE guard meta cpu 0 drop',
  ];
  await withRules('ip', odd, async () => {
    const { answer, status } = await trace(node, client.ipv4, `${far.ipv4}:8080`);
    assert.equal(answer.verdict, 'unknown');
    assert.equal(status, 2);
    assert.deepEqual(answer.ways.map(({ result, conditions }) => [result, conditions.length]).sort(), [
      ['died', 1],
      ['left', 1],
    ]);
  });
});

test('rules that cannot be read may hold anything: without the right to read them nothing is said to arrive', async () => {
  const asked = ['trace', client.ipv4, `${far.ipv4}:8080`, '--socket', node.cniSocket, '-o', 'json'];
  const confined = [
    '--bounding-set',
    '-net_admin',
    '--inh-caps',
    '-net_admin',
    process.execPath,
    twillProgram,
  ];
  const { status, stdout } = await node.namespace.run('setpriv', [...confined, ...asked]);
  const { verdict, notes } = JSON.parse(stdout) as TraceAnswer;
  assert.match(notes.join('\n'), /rules could not be read: list tables of nftables: EPERM/);
  assert.deepEqual([verdict, status], ['unknown', 2]);
});
