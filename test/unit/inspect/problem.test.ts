import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { conntrackProblem } from '../../../src/inspect/environment.ts';
import type { Difference } from '../../../src/inspect/plan/difference.ts';
import { compareLines } from '../../../src/inspect/plan/lines.ts';
import { differenceProblems, summaryOf, verdictOf } from '../../../src/inspect/plan/problem.ts';
import { absenceProblems, checkProblems } from '../../../src/inspect/plan/process-problems.ts';
import type { AgentState, ProxyState } from '../../../src/inspect/plan/state.ts';

const route = (object: string): Difference => ({
  kind: 'route',
  object,
  state: 'missing',
  detail: 'should be there',
  show: `ip route show ${object}`,
});

describe('the verdict', () => {
  it('is healthy where nothing is wrong, or only worth knowing', () => {
    assert.equal(verdictOf([]), 'healthy');
    assert.equal(
      verdictOf([{ severity: 'note', area: 'services', what: 'one has no endpoints' }]),
      'healthy',
    );
    assert.equal(summaryOf('node1', []), 'node1 is healthy');
  });

  it('is degraded by one route of many, and down where no node is reached', () => {
    const some = differenceProblems([route('10.244.1.0/24')], 2);
    assert.equal(verdictOf(some), 'degraded');
    assert.equal(summaryOf('node1', some), 'node1 is degraded: 10.244.1.0/24 is missing: should be there');
    const all = differenceProblems([route('10.244.1.0/24'), route('10.244.2.0/24')], 2);
    assert.equal(verdictOf(all), 'down');
    assert.equal(summaryOf('node1', all), 'node1 is down: no other node is reached');
  });

  it('tells the first of many, and how many more there are', () => {
    const many = Array.from({ length: 5000 }, (_, index) => route(`10.${index >> 8}.${index & 255}.0/24`));
    const problems = differenceProblems(many, 10_000);
    assert.equal(problems.length, 6);
    assert.deepEqual(problems.at(-1), {
      severity: 'degraded',
      area: 'route',
      what: 'and 4995 more',
      show: 'twill diff',
    });
  });

  it('is down without an agent and a proxy, degraded where one is away, and silent about a proxy that never ran', () => {
    const none = { state: undefined, live: false, why: 'the agent does not answer' };
    const noProxy = { state: undefined, live: false, why: 'the proxy does not answer' };
    assert.equal(verdictOf(absenceProblems(none, noProxy)), 'down');
    const agent = { state: {} as AgentState, live: true, why: undefined };
    assert.deepEqual(absenceProblems(agent, noProxy), []);
    const away = {
      state: { ready: true, warnings: [] } as unknown as ProxyState,
      live: false,
      why: 'it is gone',
    };
    assert.equal(verdictOf(absenceProblems(agent, away)), 'degraded');
  });

  it('takes up what /readyz says', () => {
    const checks = [
      { name: 'lease', state: 'ok', detail: '10.244.1.0-24' },
      { name: 'lease source', state: 'warning', detail: 'not followed now' },
      { name: 'overlay', state: 'failed', detail: 'no interface' },
    ];
    const problems = checkProblems({ checks } as unknown as AgentState);
    assert.deepEqual(
      problems.map(({ severity, area }) => [severity, area]),
      [
        ['degraded', 'lease source'],
        ['down', 'overlay'],
      ],
    );
  });
});

describe('what is compared', () => {
  it('rules are quoted that are missing, foreign, or in another order', () => {
    assert.equal(compareLines(['a', 'b'], ['a', 'b']), undefined);
    assert.equal(compareLines(['a', 'b'], ['b', 'a']), 'its rules stand in another order');
    assert.equal(
      compareLines(['a', 'b', 'b', 'c', 'd'], ['b', 'x']),
      "missing 'a', 'b' and 2 more; foreign 'x'",
    );
    assert.equal(compareLines(['a'], ['a', 'a']), "foreign 'a'");
  });

  it('a connection tracking table that is nearly full is told', () => {
    assert.deepEqual(conntrackProblem(undefined, undefined), []);
    assert.deepEqual(conntrackProblem(100, 1000), []);
    assert.match(conntrackProblem(950, 1000)[0]!.what, /950 of at most 1000 entries.*nf_conntrack_max/);
  });
});
