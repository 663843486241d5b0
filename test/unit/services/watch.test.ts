import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pino } from 'pino';
import { ProxyWatch } from '../../../src/services/watch.ts';
import { waitFor } from '../../lab/wait.ts';

/** Rules whose standing the test decides, watched. */
function watched() {
  const state = { generation: 1, whole: true, busy: false, looks: 0, wait: 0, repairs: [] as boolean[] };
  const watch = new ProxyWatch({
    stamp: {
      read: () => Promise.resolve(String(state.generation)),
      explains: (before, after, { transactions }) => Number(before) + transactions === Number(after),
      close: () => {},
    },
    busy: () => state.busy,
    wait: () => state.wait,
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
    await watch.settled(undefined);
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
    await watch.settled(undefined);
    await waitFor('a look', () => state.looks > 0);
    state.busy = true;
    state.generation += 2; // the proxy's own change and another's
    state.whole = false;
    await watch.settled({ transactions: 1, entries: 0 });
    state.busy = false;
    await waitFor('a repair', () => state.repairs.length > 0);
    assert.deepEqual(state.repairs, [true]);
  } finally {
    watch.stop();
  }
});

test('rules are not looked at when the proxy alone has written', async () => {
  const { state, watch } = watched();
  watch.start();
  try {
    await watch.settled(undefined);
    await waitFor('a look after a full sync', () => state.looks === 1);
    for (let round = 0; round < 3; round++) {
      state.generation++;
      await watch.settled({ transactions: 1, entries: 5 });
    }
    state.generation++;
    await waitFor('a look at what another one did', () => state.looks === 2);
    assert.ok(!state.repairs.includes(true));
  } finally {
    watch.stop();
  }
});

test('a repair waits where the same one was made again and again', async () => {
  const { state, watch } = watched();
  watch.start();
  try {
    await watch.settled(undefined);
    state.wait = 1000;
    state.generation++;
    state.whole = false;
    const { looks } = state;
    await waitFor('further looks', () => state.looks > looks + 2);
    assert.deepEqual(state.repairs, []);
    state.wait = 0;
    await waitFor('the repair', () => state.repairs.length > 0);
  } finally {
    watch.stop();
  }
});
