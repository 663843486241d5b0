import assert from 'node:assert/strict';
import { it } from 'node:test';
import { EtcdRenewal } from '../../../../src/leases/etcd/renewal.ts';
import { makeLog } from '../../../../src/process/log.ts';

const log = makeLog({ level: 'fatal', format: 'json', name: 'test' });

it('a lease is renewed in time although the clock of the node was set back', async (test) => {
  const real = Date.now;
  let shift = 0;
  test.mock.method(Date, 'now', () => real() + shift);
  const due = await new Promise<boolean>((resolve) => {
    const renewal: EtcdRenewal = new EtcdRenewal({
      store: undefined as never,
      log,
      marginSeconds: 3600,
      onDue: () => resolve(renewal.due),
    });
    renewal.schedule(0);
    shift = -3_600_000;
    // The renewal's own timer does not keep the process.
    setTimeout(() => resolve(false), 5000);
  });
  assert.equal(due, true);
});
