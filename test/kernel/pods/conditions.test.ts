// The portmap plugin's conditions: what of a packet must be so that a host port is one.
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fails } from '../../lab/cni-conformance.ts';
import { dualStack, fetchFrom, serveName, withCniNode, withOutsideClient } from '../../lab/cni-node.ts';
import { waitFor } from '../../lab/wait.ts';

const portMappings = [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }];
const runtimeConfig = { portMappings };

for (const variant of ['nft', 'legacy']) {
  test(`conditions keep a host port from being one for other packets, as portmap's: iptables-${variant}`, async () => {
    await withOutsideClient(async (node, client) => {
      const { namespace } = node;
      const tables = (): Promise<string[]> =>
        Promise.all(
          ['iptables', 'ip6tables'].map((one) => namespace.exec(`${one}-${variant}-save`, ['-t', 'nat'])),
        );
      for (const program of ['iptables', 'ip6tables'])
        await namespace.exec(`${program}-${variant}`, ['-t', 'mangle', '-N', 'KUBE-IPTABLES-HINT']);
      await namespace.ip('addr add 192.0.2.2/24 dev uplink', 'addr add 2001:db8::2/64 dev uplink nodad');
      const config = {
        conditionsV4: ['!', '-d', '192.0.2.2', '--syn', '-m', 'comment', '--comment', 'not "that" \\one'],
        ConditionsV6: ['-d', '2001:db8::2', '-m', 'multiport', '!', '--sports', '1:2'],
        runtimeConfig,
      };
      const { pod, call, result } = await node.added({ config });
      await serveName(pod, 'pod', 80);
      const all = await node.added({
        config: { runtimeConfig: { portMappings: [{ hostPort: 8081, containerPort: 80 }] } },
      });
      await serveName(all.pod, 'all', 80);
      const assertServed = async (): Promise<void> => {
        for (const [address, answer] of [
          ['192.0.2.1', 'pod'],
          ['192.0.2.2', undefined],
          ['2001:db8::1', undefined],
          ['2001:db8::2', 'pod'],
        ] as const)
          assert.equal(await fetchFrom(client, address, 8080), answer, address);
        assert.equal(await fetchFrom(namespace, '127.0.0.1', 8080), 'pod', 'masqueraded, too');
        for (const address of ['192.0.2.2', '2001:db8::1'])
          assert.equal(await fetchFrom(client, address, 8081), 'all');
      };
      await assertServed();
      assert.equal((await call('CHECK', { config: { ...config, prevResult: result } })).status, 0);
      for (const program of ['iptables', 'ip6tables'])
        await namespace.exec(`${program}-${variant}`, ['-t', 'nat', '-F']);
      await waitFor('the rules to be back', async () =>
        (await tables()).every((table) => / 8080 /.test(table)),
      );
      await assertServed();
      await node.killAndForgetPods();
      await node.startServer();
      await assertServed();
      assert.equal((await call('DEL')).status, 0);
      assert.doesNotMatch((await tables()).join(), / 8080 |TWILL-HP/);
      assert.equal(await fetchFrom(client, '192.0.2.2', 8081), 'all');
    }, dualStack);
  });
}

/** Words of which iptables-restore takes the last for a rule of its own, since it reads 10239 bytes at a time. */
function longConditions(before: string): string[] {
  const words: string[] = [];
  const room = (): number => 10_239 - [before, ...words, ''].join(' ').length;
  const number = (option: string, value: string): string =>
    `${option}=${value.padStart(254 - option.length, '0')}`;
  const ports = ['--ctorigsrcport', '--ctorigdstport', '--ctreplsrcport', '--ctrepldstport', '--ctexpire'];
  while (room() > 1700)
    words.push('-m', 'conntrack', ...ports.map((option) => number(option, '1')), number('--ctproto', '6'));
  while (room() > 200) words.push('-m', 'comment', '--comment', 'c'.repeat(Math.min(230, room() - 180)));
  words.push('-m', 'comment');
  const option = '--comment=';
  const filling = 'c'.repeat(room() - 1 - option.length); // a quote comes first
  return [...words, `${option}${filling}-A PREROUTING -j ACCEPT -m comment --comment `];
}

test('nothing but matches comes with conditions: code 7, and nothing is made or run', async () => {
  await withCniNode(async (node) => {
    const { pod, call } = await node.container({ runtimeConfig });
    const trace = join(node.directory, 'ran');
    const program = join(node.directory, 'program');
    writeFileSync(program, `#!/bin/sh\ntouch ${trace}\n`, { mode: 0o755 });
    for (const [words, message] of [
      [['-j', 'ACCEPT'], /conditionsV4 is \["-j","ACCEPT"\].*-j is no option of a match/],
      [['--goto', 'INPUT'], /--goto \(--goto\) is no match/],
      [['-m', 'comment', '--comment', 'x\n-A INPUT -j ACCEPT'], /control characters/],
      [[`--modprobe=${program}`, '-m', 'nosuch'], /modprobe/],
      [['-p', 'udp'], /-p is no option/],
      [['-m', 'nosuch'], /conditionsV4: .*nosuch/],
      [['--dport', '81'], /conditionsV4: .*destination-port/],
      [['-s', 'nonsense value'], /conditionsV4: .*nonsense value/],
      [['loose'], /conditionsV4: .*loose/],
      [['-s', '10.0.0.0/8,192.0.2.0/24'], /conditionsV4: the conditions of 1 make 2 rules: give one address/],
      [longConditions('-A TWILL-HP-TRIAL -p tcp -m tcp --dport 8080'), /more than 4096 bytes in one rule/],
    ] as const)
      fails(await call('ADD', { config: { conditionsV4: words } }), 7, message);
    fails(await call('ADD', { config: { conditionsV6: ['-V'] } }), 7, /conditionsV6 is \["-V"\]/);
    assert.equal(existsSync(trace), false);
    assert.equal((await pod.run('ip', ['link', 'show', 'eth0'])).status, 1);
    assert.deepEqual(await node.hostVeths(), []);
    assert.doesNotMatch(
      await node.namespace.exec('iptables-nft-save', []),
      /TWILL|-j ACCEPT|ACCEPT \[[^\]]*\]\n-A INPUT/,
    );
    const empty = { conditionsV4: [], conditionsV6: null };
    assert.equal((await call('ADD', { config: empty })).status, 0);
  });
});

test('conditions that iptables refuses by now close that host port alone, and the log says so', async () => {
  await withCniNode(async (node) => {
    const [a, b] = [
      await node.added({ config: { conditionsV4: ['-m', 'mark', '!', '--mark', '77'], runtimeConfig } }),
      await node.added({
        config: { runtimeConfig: { portMappings: [{ hostPort: 8081, containerPort: 80 }] } },
      }),
    ];
    for (const [pod, name] of [
      [a.pod, 'a'],
      [b.pod, 'b'],
    ] as const)
      await serveName(pod, name, 80);
    await node.stopServer();
    const folder = join(node.directory, 'pods');
    for (const file of readdirSync(folder)) {
      const path = join(folder, file);
      // A set, or a module of the kernel, that is gone has the same effect.
      writeFileSync(path, readFileSync(path, 'utf8').replace('"mark"', '"nosuch"'));
    }
    await node.namespace.exec('iptables-nft', ['-t', 'nat', '-F']);
    await node.startServer();
    await waitFor('the other port', async () => (await fetchFrom(node.namespace, '127.0.0.1', 8081)) === 'b');
    assert.equal(await fetchFrom(node.namespace, '127.0.0.1', 8080), undefined);
    assert.match(node.log, /a host port is closed: its conditions are refused/);
    assert.equal((await a.call('DEL')).status, 0);
    assert.equal(await fetchFrom(node.namespace, '127.0.0.1', 8081), 'b');
  });
});

test('pods with conditions that come at once, or while another is checked, do not disturb each other', async () => {
  await withCniNode(async (node) => {
    const config = (at: number): object => ({
      conditionsV4: ['-m', 'mark', '!', '--mark', `${at}`],
      runtimeConfig: { portMappings: [{ hostPort: 8080 + at, containerPort: 80 }] },
    });
    const { call, result } = await node.added({ config: config(0) });
    const containers = [];
    for (let at = 1; at <= 6; at++) containers.push(await node.container(config(at)));
    const outcomes = await Promise.all(
      containers.flatMap((container) => [
        container.call('ADD'),
        call('CHECK', { config: { ...config(0), prevResult: result } }),
      ]),
    );
    for (const { status, json } of outcomes) assert.equal(status, 0, JSON.stringify(json));
    const rules = await node.namespace.exec('iptables-nft-save', ['-t', 'nat']);
    assert.equal(rules.match(/ -j DNAT /g)?.length, 7, rules);
    assert.doesNotMatch(rules, /TRIAL/);
  });
});
