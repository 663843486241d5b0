import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Surroundings } from '../../../../src/inspect/trace/plan/chains.ts';
import { iptablesChains, type RuleSet, ruleSet, walkHook } from '../../../../src/inspect/trace/plan/hooks.ts';
import { parseSavedTables } from '../../../../src/inspect/trace/plan/iptables-rules.ts';
import { parseNftTable } from '../../../../src/inspect/trace/plan/nft-rules.ts';
import { begin } from '../../../../src/inspect/trace/plan/state.ts';
import { traceText } from '../../../../src/inspect/trace/plan/trace-text.ts';
import { ipv4 } from '../../../../src/model/address.ts';

const surroundings: Surroundings = {
  addressType: () => 'UNICAST',
  element: () => undefined,
  recent: () => undefined,
  ipset: (name) => name === 'members',
  masqueradeAddress: () => '192.0.2.11',
};

const first = begin({
  family: ipv4,
  protocol: 'tcp',
  source: '10.244.1.2',
  sourcePort: undefined,
  destination: '10.244.2.2',
  port: 80,
  mark: 0,
  tracking: undefined,
  opening: true,
});

/** What FORWARD makes of a packet: verdicts with what each depends on. */
function forward(rules: RuleSet): string[] {
  return walkHook({ where: 'node', rules, surroundings }, 'forward', first)
    .map(({ verdict, state }) => [verdict, ...state.doubts].join(', '))
    .sort();
}

function iptables(...rules: readonly string[]): string[] {
  const lines = ['*filter', ':FORWARD ACCEPT [0:0]', ...rules.map((rule) => `-A FORWARD ${rule}`), 'COMMIT'];
  return forward(ruleSet(iptablesChains(parseSavedTables(lines.join('\n'), 'iptables-nft')), []));
}

function nft(...expr: readonly object[]): string[] {
  const items = [
    {
      chain: {
        family: 'ip',
        table: 't',
        name: 'f',
        type: 'filter',
        hook: 'forward',
        prio: 0,
        policy: 'accept',
      },
    },
    { rule: { family: 'ip', table: 't', chain: 'f', handle: 1, expr } },
  ];
  return forward(ruleSet(parseNftTable('ip', 't', JSON.stringify({ nftables: items }), '').chains, []));
}

describe('what iptables asks that a walk cannot tell', () => {
  it('is a condition of both ways, also of modules that stand without options', () => {
    for (const name of ['socket', 'rpfilter']) {
      const what = `"-m ${name}" matches, which this program does not understand`;
      assert.deepEqual(iptables(`-m ${name} -j DROP`), [`accept, unless ${what}`, `drop, if ${what}`]);
    }
  });

  it('is one condition, whether a rule asks for it or for its opposite', () => {
    assert.deepEqual(iptables('-p tcp -m tcp --sport 53 -j ACCEPT', '-p tcp -m tcp ! --sport 53 -j DROP'), [
      'accept, if the source port is 53',
      'drop, unless the source port is 53',
    ]);
  });

  it('is whether an ipset has a port that nobody has chosen yet, or what its counters say', () => {
    const set = (words: string): string[] => iptables(`-m set --match-set ${words} -j DROP`);
    assert.deepEqual(set('members src'), ['drop']);
    assert.deepEqual(set('members dst,dst'), ['drop']);
    assert.deepEqual(set('others dst,dst'), ['accept']);
    assert.deepEqual(set('members src,src'), [
      'accept, unless ipset members has 10.244.1.2,tcp:any',
      'drop, if ipset members has 10.244.1.2,tcp:any',
    ]);
    assert.equal(set('members dst,dst,src').length, 2);
    assert.equal(set('members src --packets-gt 5').length, 2);
  });
});

describe('statements of nft that nobody understands', () => {
  it('may end the packet', () => {
    for (const statement of [{ queue: { num: 1 } }, { xt: { type: 'target', name: 'TPROXY' } }])
      assert.deepEqual(
        nft(statement).map((text) => text.replace(/,.*/, '')),
        ['accept', 'drop'],
      );
  });

  it('only end their rule where they are limits and matches', () => {
    for (const statement of [{ limit: { rate: 5, per: 'second' } }, { xt: { type: 'match', name: 'bpf' } }]) {
      assert.deepEqual(nft(statement), ['accept']);
      assert.deepEqual(
        nft(statement, { drop: null }).map((text) => text.replace(/,.*/, '')),
        ['accept', 'drop'],
      );
    }
  });

  it('are comparisons with what another expression says', () => {
    const compared = (right: unknown): string[] =>
      nft({ match: { op: '==', left: { meta: { key: 'mark' } }, right } }, { drop: null });
    assert.deepEqual(compared(0), ['drop']);
    assert.deepEqual(compared(1), ['accept']);
    assert.equal(compared({ ct: { key: 'mark' } }).length, 2);
  });
});

it('rules as others wrote them end no line of what is shown, and do not reach the terminal', () => {
  const step = {
    where: 'node',
    kind: 'rule',
    text: '-j DROP',
    comment: 'a\u001b[2Jb\nc',
    chain: 'FORWARD',
  } as const;
  const packet = { source: '10.244.1.2', destination: '10.244.2.2', port: 80 };
  const way = {
    result: 'died',
    where: 'node',
    reason: 'dropped ("a\u001b[2Jb")',
    packet,
    steps: [step],
    share: '1',
    probability: 1,
    conditions: [],
    masqueraded: false,
    back: [],
  } as const;
  const end = { name: 'node', address: '10.244.2.2' };
  const answer = {
    version: 1,
    from: end,
    to: end,
    protocol: 'tcp',
    verdict: 'dies',
    notes: [],
    ways: [way],
  } as const;
  const shown = traceText(answer, { paint: (text) => text, width: 100 });
  assert.match(shown, /"a\\u001b\[2Jb\\nc"/);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
  assert.doesNotMatch(shown, /\u001b/);
});
