import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { PARTNERS, passMs, Schedule } from '../../../src/mesh/plan/schedule.ts';
import { seededFractions } from '../../lab/random.ts';

const interval = 10_000;
const names = (count: number): string[] => Array.from({ length: count }, (_, index) => `node${index}`);

/** Goes on for so long, and says when whom it asked. */
function play(
  count: number,
  forMs: number,
  state: (name: string) => 'well' | 'doubtful' | 'ill',
): { at: number; name: string }[] {
  const schedule = new Schedule(interval, seededFractions(1));
  const asked: { at: number; name: string }[] = [];
  for (let now = schedule.delayMs(); now < forMs; now += schedule.delayMs()) {
    const name = schedule.next(() => names(count), now);
    if (name === undefined) continue;
    asked.push({ at: now, name });
    schedule.asked(name, state(name), now);
  }
  return asked;
}

describe('whom to ask next', () => {
  for (const count of [1, 2, 20, 21, 300, 5000])
    it(`comes to each of ${count} in time, and to no more in an interval than it may`, () => {
      const pass = passMs(count, interval);
      assert.equal(pass, Math.max(interval, (count / PARTNERS) * interval));
      const asked = play(count, pass * 1.3, () => 'well');
      assert.equal(new Set(asked.map(({ name }) => name)).size, count);
      for (const { at } of asked.slice(0, 500)) {
        const within = asked.filter((one) => one.at >= at && one.at < at + interval).length;
        assert.ok(within <= Math.ceil(PARTNERS * 1.34), `${within} in an interval`);
      }
    });

  it('comes to all others in twice the time, however many are ill or in doubt', () => {
    for (const state of ['ill', 'doubtful'] as const) {
      const asked = play(300, 2 * 1.3 * passMs(300, interval), (name) =>
        Number(name.slice(4)) < 150 ? state : 'well',
      );
      assert.equal(new Set(asked.map(({ name }) => name)).size, 300);
    }
  });

  it('asks one that is in doubt again soon', () => {
    let times = 0;
    const asked = play(3, 60_000, (name) => (name === 'node0' && times++ < 2 ? 'doubtful' : 'well'));
    const [first, second, third] = asked.filter(({ name }) => name === 'node0');
    assert.ok(second!.at - first!.at < interval / 5 && third!.at - second!.at < interval / 5);
  });

  it('is asked of all nodes together no more often the more there are, where it is ill', () => {
    for (const count of [20, 5000]) {
      const asked = play(count, 2 * passMs(count, interval), (name) => (name === 'node0' ? 'ill' : 'well'));
      const perSecond =
        (asked.filter(({ name }) => name === 'node0').length / (2 * passMs(count, interval))) * 1000;
      assert.ok(perSecond * count < 15, `${perSecond * count} a second`);
    }
  });

  it('forgets who is gone, and goes on without nodes', () => {
    const schedule = new Schedule(interval, seededFractions(2));
    assert.equal(
      schedule.next(() => [], 0),
      undefined,
    );
    schedule.asked('gone', 'doubtful', 0);
    schedule.asked('ill', 'ill', 0);
    schedule.forget('gone');
    schedule.forget('ill');
    assert.equal(
      schedule.next(() => ['there'], 1e9),
      'there',
    );
  });
});
