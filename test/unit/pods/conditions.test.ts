import assert from 'node:assert/strict';
import { test } from 'node:test';
import { conditionsOf, conditionsProblem } from '../../../src/pods/plan/conditions.ts';
import { foundMappings } from '../../../src/pods/plan/portmap.ts';

test('matches are conditions, word by word', () => {
  for (const text of [
    '! -d 192.0.2.0/24',
    '-s 10.0.0.0/8 -i eth0',
    '--source 10.0.0.0/8 ! --in-interface eth0',
    '-m conntrack --ctstate NEW,RELATED',
    '--syn',
    '-m multiport --sports 1024:65535',
    '-m set ! --match-set blocked src',
    '-m recent --name seen --set',
    '-m policy --dir in --pol none --proto esp',
    '-m mark --mark=0x1/0xff',
    '-m statistic --mode random --probability 0.5',
    '-m u32 --u32 0&0xFF=0x52',
  ])
    assert.equal(conditionsProblem(text.split(' ')), undefined, text);
  assert.equal(conditionsProblem(['-m', 'comment', '--comment', 'say "größe" \\ twice']), undefined);
});

test('whatever is no match is refused, however it is written', () => {
  for (const words of [
    ['-j', 'ACCEPT'],
    ['-jACCEPT'],
    ['--jump', 'ACCEPT'],
    ['--jum=ACCEPT'],
    ['-g', 'X'],
    ['--goto', 'X'],
    ['-A', 'INPUT'],
    ['-fjACCEPT'],
    ['-t', 'filter'],
    ['--table=filter'],
    ['-M', '/tmp/program'],
    ['--modprobe=/tmp/program'],
    ['--modp', '/tmp/program'],
    ['-h'],
    ['--help'],
    ['--he'],
    ['-V'],
    ['--version'],
    ['-c', '1', '1'],
    ['--set', '1'],
    ['--pol', 'none'],
    ['-w'],
    ['--wait'],
    ['-4'],
    ['-p', 'udp'],
    ['--protocol', 'udp'],
    ['-s10.0.0.0/8'],
    ['--source=10.0.0.0/8'],
    ['--mat', 'quota'],
    ['-m', 'quota', '--quota', '1'],
    ['-m', '../../tmp/program'],
    ['-m', 'comment', '--comment', 'a\n-A INPUT -j ACCEPT'],
    ['-m', 'comment', '--comment', 'a\rb'],
    ['-m', 'comment', '--comment', 'a\0b'],
    ['--\n-A INPUT'],
    ['-'],
    ['--'],
    [''],
    ['a'.repeat(256)],
    Array.from({ length: 65 }, () => '!'),
    Array.from({ length: 40 }, () => `--ctexpire=${'1'.padStart(240, '0')}`),
    Array.from({ length: 16 }, () => ['-m', 'comment', '--comment', 'ß'.repeat(250)]).flat(),
    Array.from({ length: 10 }, () => '"'.repeat(250)),
  ])
    assert.ok(conditionsProblem(words) !== undefined, JSON.stringify(words));
});

test('what a rule says beside ports and comment are its conditions', () => {
  const own = (text: string): string => `-A CNI-HOSTPORT-TWILL ${text} -j TWILL-HP-veth0`;
  for (const [rule, words] of [
    [own('-p tcp -m tcp --dport 80 -m comment --comment c'), []],
    [own('! -d 192.0.2.1/32 -p tcp -m tcp --dport 80 -m comment --comment c'), ['!', '-d', '192.0.2.1/32']],
    [
      own(
        '-i eth0 -p tcp -m tcp --sport 5 --dport 80 --tcp-flags SYN SYN -m mark --mark 0x1 -m comment --comment c',
      ),
      ['-i', 'eth0', '--sport', '5', '--tcp-flags', 'SYN', 'SYN', '-m', 'mark', '--mark', '0x1'],
    ],
    [
      '-A CNI-HOSTPORT-DNAT -p udp -m comment --comment "dnat name: \\"cbr0\\" id: \\"c\\"" -m multiport --dports 53,54 -m udp --sport 5 -j CNI-DN-0123',
      ['-m', 'udp', '--sport', '5'],
    ],
  ] as const)
    assert.deepEqual(conditionsOf(rule), words, rule);
});

test('the options that the portmap plugin had are read from its rules, and ours from ours', () => {
  const dnat = '-p tcp -m tcp --dport 80 -j DNAT --to-destination 10.0.0.2:8080';
  const mark = '-p tcp -m tcp --dport 80 -j';
  const usual = `-A CNI-DN-0123456789 -s 10.0.0.0/24 ${mark} CNI-HOSTPORT-SETMARK`;
  for (const [rules, options] of [
    [[usual], {}],
    [[], { snat: false }],
    [[`-A CNI-DN-0123456789 ${mark} CNI-HOSTPORT-SETMARK`], { masqAll: true }],
    [[usual.replace('CNI-HOSTPORT-SETMARK', 'MARK --set-xmark 0x10/0x10')], { markMasqBit: 4 }],
    [
      [usual, '-A CNI-HOSTPORT-DNAT ! -d 192.0.2.1/32 -p tcp -j CNI-DN-0123456789'],
      { conditionsV4: ['!', '-d', '192.0.2.1/32'] },
    ],
  ] as const) {
    const [found] = foundMappings([...rules, `-A CNI-DN-0123456789 ${dnat}`].join('\n'));
    assert.deepEqual(found?.options, options);
  }
});
