import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import pino from 'pino';
import type { NftTable } from '../../../../src/kernel/nft-table.ts';
import { NftWatch } from '../../../../src/services/nftables/watch.ts';

for (const how of ['fails', 'finds them changed'] as const) {
  test(`a watch that is stopped while it looks at the rules, which ${how}, does nothing more`, async () => {
    mock.timers.enable({ apis: ['setTimeout'] });
    try {
      let heard = (): void => {};
      const table = {
        listen: (onSet: (set: string | undefined) => void) => {
          heard = () => onSet(undefined);
          return () => {};
        },
      } as unknown as NftTable;
      let looks = 0;
      let end = (): void => {};
      const looksWhole = (): Promise<boolean> =>
        new Promise((resolve, reject) => {
          looks++;
          end = () => (how === 'fails' ? reject(new Error('closed')) : resolve(false));
        });
      const repairs: boolean[] = [];
      const watch = new NftWatch(table, looksWhole, {
        busy: () => false,
        wait: () => 0,
        repair: (broken) => repairs.push(broken),
        log: pino({ level: 'silent' }),
      });
      watch.start();
      heard();
      mock.timers.tick(1000);
      assert.equal(looks, 1);
      watch.stop();
      end();
      for (let turn = 0; turn < 10; turn++) await Promise.resolve();
      mock.timers.tick(1000);
      assert.deepEqual([looks, repairs], [1, []]);
    } finally {
      mock.timers.reset();
    }
  });
}
