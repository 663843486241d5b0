import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { TwillError } from '../../../src/model/error.ts';
import { makeLog } from '../../../src/process/log.ts';
import { ReconcileLoop } from '../../../src/process/loop.ts';
import { waitFor } from '../../lab/wait.ts';

const log = makeLog({ level: 'fatal', format: 'json', name: 'test' });

const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** A promise with its resolve function outside. */
function gate(): { opened: Promise<void>; open: () => void } {
  let open = (): void => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open };
}

it('collects triggers that come during a run into one more run, with all their reasons', async () => {
  const seen: (readonly string[])[] = [];
  const { opened, open } = gate();
  const loop = new ReconcileLoop({
    name: 'test',
    log,
    work: async (reasons) => {
      seen.push(reasons);
      if (seen.length === 1) await opened;
    },
  });
  const first = loop.settled();
  loop.trigger('a');
  while (seen.length === 0) await nextTurn();
  loop.trigger('b');
  loop.trigger('c');
  loop.trigger('b');
  const second = loop.settled();
  open();
  await Promise.all([first, second]);
  assert.deepEqual(seen, [['a'], ['b', 'c']]);
  await loop.stop();
});

it('repeats a failed run with the same reasons until it works, and reports the failure meanwhile', async () => {
  const seen: (readonly string[])[] = [];
  const loop = new ReconcileLoop({
    name: 'test',
    log,
    backoffMs: { first: 1, longest: 4 },
    work: async (reasons) => {
      seen.push(reasons);
      if (seen.length < 4) throw new Error(`no ${seen.length}`);
    },
  });
  const settled = loop.settled();
  loop.trigger('a');
  while (loop.status().failures === 0) await nextTurn();
  assert.match(loop.status().lastError ?? '', /^no /);
  await settled;
  assert.deepEqual(seen, [['a'], ['a'], ['a'], ['a']]);
  assert.equal(loop.status().failures, 3);
  assert.equal(loop.status().consecutiveFailures, 0);
  assert.equal(loop.status().lastError, undefined);
  await loop.stop();
});

it('lets the run under way end and starts no other after stop', async () => {
  let runs = 0;
  const { opened, open } = gate();
  const loop = new ReconcileLoop({
    name: 'test',
    log,
    resyncMs: 1,
    work: async (_reasons, signal) => {
      runs++;
      await opened;
      assert.ok(signal.aborted);
    },
  });
  loop.trigger('a');
  while (runs === 0) await nextTurn();
  const stopped = loop.stop();
  open();
  await stopped;
  loop.trigger('b');
  for (let turn = 0; turn < 100; turn++) await nextTurn();
  assert.equal(runs, 1);
});

describe('the clock of the node is set while a loop runs', () => {
  for (const [direction, hours] of [
    ['back', -1],
    ['forward', 1],
  ] as const) {
    it(`${direction}: what is asked for runs as soon as before`, async (test) => {
      let runs = 0;
      const loop = new ReconcileLoop({
        name: 'test',
        log,
        resyncMs: 3_600_000,
        minIntervalMs: 1,
        work: async () => {
          runs++;
        },
      });
      const first = loop.settled();
      loop.trigger('a');
      await first;
      const real = Date.now;
      test.mock.method(Date, 'now', () => real() + hours * 3_600_000);
      loop.trigger('b');
      const deadline = performance.now() + 5000;
      while (runs < 2 && performance.now() < deadline) await nextTurn();
      await loop.stop();
      assert.equal(runs, 2);
    });
  }
});

it('is stuck for as long as its runs end by time-outs alone', async () => {
  let outcome: 'timeout' | 'unavailable' | undefined = 'timeout';
  const loop = new ReconcileLoop({
    name: 'test',
    log,
    backoffMs: { first: 1, longest: 1 },
    work: async () => {
      if (outcome !== undefined) throw new TwillError(outcome, 'it hangs');
    },
  });
  const run = async (count: number): Promise<number> => {
    const { runs } = loop.status();
    loop.trigger('test');
    await waitFor('more runs', () => loop.status().runs >= runs + count);
    return loop.status().stuckMs;
  };
  const first = await run(3);
  assert.ok(first > 0);
  assert.ok((await run(3)) > first, 'one run after the other');
  outcome = 'unavailable';
  await run(2);
  assert.equal(loop.status().stuckMs, 0, 'a refusal is an answer');
  outcome = 'timeout';
  await run(3);
  outcome = undefined;
  await run(1);
  assert.equal(loop.status().stuckMs, 0);
  await loop.stop();
});

it('that is to run again after longer than a timer can wait does not run at once', async () => {
  const loop = new ReconcileLoop({ name: 'test', log, work: () => Promise.resolve(), resyncMs: 2 ** 40 });
  const first = loop.settled();
  loop.trigger('start');
  await first;
  while (loop.status().nextRunMs === undefined) await nextTurn();
  const soon = new Promise((resolve) => setTimeout(resolve, 20));
  await soon;
  assert.equal(loop.status().runs, 1);
  assert.ok(loop.status().nextRunMs! > 2 ** 30);
  await loop.stop();
});
