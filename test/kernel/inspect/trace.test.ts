import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { Place } from '../../lab/place.ts';
import { endings, trace, traceText } from '../../lab/trace.ts';
import { patient, reach, startTraceLab, type TraceLab } from '../../lab/trace-lab.ts';

let lab: TraceLab;
before(async () => {
  lab = await startTraceLab();
});
after(() => lab?.services.stop());

test('what arrives: from pods, the node and outside, to pods, Services, node ports and outside, as real connections do', async () => {
  const { node, client, near, far, outside } = lab;
  const both = [`${near.ipv4}:8080`, `${far.ipv4}:8080`].sort();
  const masked = both.map((end) => `${end} masqueraded`);
  const cases: readonly (readonly [
    from: Place,
    name: string,
    to: string,
    address: string,
    port: number,
    ends: readonly string[],
  ])[] = [
    [client, client.ipv4, `${near.ipv4}:8080`, near.ipv4, 8080, [`${near.ipv4}:8080`]],
    [client, client.ipv4, `${far.ipv4}:8080`, far.ipv4, 8080, [`${far.ipv4}:8080`]],
    [client, client.ipv4, 'shop/web:http', '10.96.0.10', 80, both],
    [
      near,
      near.ipv4,
      'shop/web',
      '10.96.0.10',
      80,
      [`${near.ipv4}:8080 masqueraded`, `${far.ipv4}:8080`].sort(),
    ],
    // To the far one it goes by the node's own address, which is the one it has.
    [node, 'node', 'shop/web:80', '10.96.0.10', 80, [masked[0]!, both[1]!]],
    [outside, outside.ipv4, 'node:30080', node.ipv4, 30_080, masked],
    [node, '127.0.0.1', '127.0.0.1:30080', '127.0.0.1', 30_080, masked],
    [client, client.ipv4, `${outside.ipv4}:8080`, outside.ipv4, 8080, [`${outside.ipv4}:8080`]],
    [client, client.ipv4, `${node.ipv4}:8080`, node.ipv4, 8080, [`${node.ipv4}:8080`]],
    [client, client.ipv6, `[${near.ipv6}]:8080`, near.ipv6, 8080, [`${near.ipv6}:8080`]],
    [client, client.ipv6, `[${far.ipv6}]:8080`, far.ipv6, 8080, [`${far.ipv6}:8080`]],
  ];
  for (const [from, name, to, address, port, ends] of cases) {
    const { answer, status } = await trace(node, name, to);
    const title = `${from.name} to ${to}`;
    assert.deepEqual(endings(answer), ends, title);
    assert.equal(status, 0, title);
    const real = await reach(from, address, port, patient);
    assert.notEqual(real, undefined, `${title}: a real connection`);
    const way = answer.ways.find(({ packet }) =>
      [near, far, outside, node].some(
        (place) => place.name === real!.server && [place.ipv4, place.ipv6].includes(packet.destination),
      ),
    );
    assert.equal(way?.packet.source, real!.client, `${title}: the source that ${real!.server} sees`);
  }
});

test('the shape of the answer: ends, shares, steps with rule, comment and counter', async () => {
  const { node, client, near, far } = lab;
  const { answer } = await trace(node, client.ipv4, 'shop/web');
  const { version, from, to, protocol, verdict, ways } = answer;
  assert.deepEqual(
    { version, from, to, protocol, verdict },
    {
      version: 1,
      from: { name: `pod ${client.ipv4}`, address: client.ipv4 },
      to: { name: 'Service shop/web:http', address: '10.96.0.10', port: 80 },
      protocol: 'tcp',
      verdict: 'delivered',
    },
  );
  assert.deepEqual(
    ways.map(({ share, probability, conditions }) => ({ share, probability, conditions })),
    [
      { share: '1/2', probability: 0.5, conditions: [] },
      { share: '1/2', probability: 0.5, conditions: [] },
    ],
  );
  assert.deepEqual(ways.map(({ result, packet }) => `${result} ${packet.destination}`).sort(), [
    `delivered ${near.ipv4}`,
    `left ${far.ipv4}`,
  ]);
  const jump = ways[0]!.steps.find(({ comment }) => comment === 'shop/web:http cluster IP')!;
  assert.equal(jump.program, 'iptables-nft');
  assert.equal(jump.table, 'nat');
  assert.equal(jump.chain, 'KUBE-SERVICES');
  assert.match(jump.rule!, /^-d 10\.96\.0\.10\/32 -p tcp .* -j KUBE-SVC-/);
  assert.ok(jump.packets! > 0);
  const route = ways.find(({ result }) => result === 'left')!.steps.filter(({ kind }) => kind === 'route');
  assert.equal(route.at(-1)?.device, 'eth0');
  assert.deepEqual(
    ways.map(({ back }) => back.map(({ result, packet }) => `${result} ${packet.source}`)),
    [['delivered 10.96.0.10'], ['delivered 10.96.0.10']],
  );
});

test('for people: 100 columns, the ways with their shares, what is common once', async () => {
  const { node, client } = lab;
  const text = await traceText(node, client.ipv4, 'shop/web');
  for (const line of text.split('\n')) assert.ok(line.length <= 100 || line.includes(node.dir), line);
  assert.match(
    text,
    /^pod .* -> Service shop\/web:http \(10\.96\.0\.10:80\) over tcp\nARRIVES, by all of 2 ways\n/,
  );
  assert.equal(text.match(/^50 % of connections$/gm)?.length, 2);
  assert.equal(text.match(/KUBE-SERVICES: -d/g)?.length, 1);
  assert.match(await traceText(node, '--help'), /Exit status: 0 it arrives by every way/);
});

test('without agent and proxy: Services by the comments of the rules, and the answer says so', async () => {
  const { node, client } = lab;
  await node.proxy!.stop();
  try {
    const { answer, status } = await trace(node, client.ipv4, 'shop/web:80');
    assert.equal(status, 0);
    assert.equal(answer.ways.length, 2);
    assert.match(answer.notes.join('\n'), /proxy.*: names of Services are those of the rules/);
    const { answer: none } = await trace(node, client.ipv4, 'shop/none');
    assert.equal(none.verdict, 'dies');
  } finally {
    await lab.services.startProxy(node);
  }
});

test("names that are nobody's, and what is not clear, are refused with what is known", async () => {
  const { node, client } = lab;
  const refusals: readonly (readonly [args: readonly string[], message: RegExp])[] = [
    [['shop/nobody', 'shop/web'], /'shop\/nobody' is no pod, Service or address .* known here: .*shop\/web/],
    [[client.ipv4, 'shop/web:81'], /Service shop\/web: it has no such port; ports: 80\/tcp \(http\)/],
    [[client.ipv4, `${client.ipv4}:70000`], /'70000' is not a port/],
    [['shop/web', client.ipv4], /is a Service: nothing is sent from it/],
    [[client.ipv6, '10.96.0.10:80'], /are not of one family/],
    [[client.ipv4, 'node'], /write the port behind the node/],
    [[client.ipv4, 'shop/web', '--from-address', 'x'], /--from-address 'x' is not an IP address/],
  ];
  for (const [args, message] of refusals) await assert.rejects(trace(node, ...args), message);
});

test('--probe sends a real packet and says whether it did the same', async () => {
  const { node, client, near, far } = lab;
  const arrives = await trace(node, client.ipv4, 'shop/web', '--probe');
  assert.deepEqual(
    [arrives.status, arrives.answer.probe?.result, arrives.answer.probe?.agrees],
    [0, 'answered', true],
  );
  const none = await trace(node, client.ipv4, 'shop/none', '--probe');
  assert.deepEqual([none.status, none.answer.probe?.result, none.answer.probe?.agrees], [1, 'refused', true]);
  const udp = await trace(node, 'node', `${near.ipv4}:8080`, '--probe', '--protocol', 'udp');
  assert.deepEqual([udp.status, udp.answer.probe?.agrees], [0, true]);
  const closed = await trace(node, client.ipv4, `${near.ipv4}:9`, '--probe');
  assert.deepEqual([closed.answer.probe?.result, closed.answer.probe?.agrees], ['refused', true]);
  assert.match(JSON.stringify(closed.answer.ways), /nobody listens on tcp port 9/);
  // What is wrong on the other node is not seen from here: that is what the probe is for.
  const other = lab.services.lab.nodes[1]!;
  await other.exec('iptables-nft', ['-I', 'FORWARD', '-j', 'DROP']);
  try {
    const lost = await trace(node, client.ipv4, `${far.ipv4}:8080`, '--probe');
    assert.deepEqual(
      [lost.status, lost.answer.verdict, lost.answer.probe?.result],
      [2, 'delivered', 'silent'],
    );
    assert.match(
      await traceText(node, client.ipv4, `${far.ipv4}:8080`, '--probe'),
      /the walk says otherwise/,
    );
  } finally {
    await other.exec('iptables-nft', ['-D', 'FORWARD', '-j', 'DROP']);
  }
  await assert.rejects(trace(node, far.ipv4, `${near.ipv4}:8080`, '--probe'), /--probe sends from this node/);
});
