import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pino } from 'pino';
import { ProxyWatch } from '../../src/reconcile/proxy-watch.ts';
import { waitFor } from '../lab/wait.ts';

/** Rules whose standing the test decides, watched. */
function watched() {
  const state = { generation: 1, whole: true, busy: false, looks: 0, repairs: [] as boolean[] };
  const watch = new ProxyWatch({
    stamp: { read: () => Promise.resolve(String(state.generation)), close: () => {} },
    busy: () => state.busy,
    looksWhole: () => {
      state.looks++;
      return Promise.resolve(state.whole);
    },
    repair: (broken) => {
      state.repairs.push(broken);
      state.whole = true;
    },
    log: pino({ level: 'silent' }),
  });
  return { state, watch };
}

test('rules that others remove are repaired', async () => {
  const { state, watch } = watched();
  watch.start();
  try {
    await watch.settled();
    state.generation++;
    state.whole = false;
    await waitFor('a repair', () => state.repairs.length > 0);
    assert.deepEqual(state.repairs, [true]);
  } finally {
    watch.stop();
  }
});

test('rules that others remove while the proxy writes are repaired too', async () => {
  const { state, watch } = watched();
  watch.start();
  try {
    await watch.settled();
    await waitFor('a look', () => state.looks > 0);
    state.busy = true;
    state.generation++; // the proxy's own change and another's, told apart by nothing
    state.whole = false;
    await watch.settled();
    state.busy = false;
    await waitFor('a repair', () => state.repairs.length > 0);
    assert.deepEqual(state.repairs, [true]);
  } finally {
    watch.stop();
  }
});
