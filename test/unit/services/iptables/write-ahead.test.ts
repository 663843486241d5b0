import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import pino from 'pino';
import { ipv4 } from '../../../../src/model/address.ts';
import { tables } from '../../../../src/services/iptables/plan/names.ts';
import { ProxyRules } from '../../../../src/services/iptables/rules.ts';
import { RefusingIptables } from '../../../lab/refusing-iptables.ts';
import { renderOptionsFor, serviceObject, sliceObject, stateOf } from '../../../lab/service-fixtures.ts';

const COUNT = 2500;
const port = [{ name: 'http', port: 8080 }];

/** Each fifth Service has node ports, so chains that lead to chains; each hundredth an endpoint on this node. */
function state(index: number): ReturnType<typeof stateOf> {
  const name = `load/svc-${index}`;
  const low = `${index >> 8}.${index & 255}`;
  const nodePort = index % 5 === 0 ? 30_000 + index : 0;
  const service = serviceObject(name, {
    clusterIP: `10.96.${low}`,
    ports: [{ name: 'http', port: 80, nodePort }],
  });
  const endpoints = ['10.244', '10.245', '10.246', '10.247'].map((net) => ({
    ip: `${net}.${low}`,
    node: index % 100 === 0 ? 'node-a' : 'node-b',
  }));
  return stateOf(service, sliceObject(name, port, endpoints));
}

const states = Array.from({ length: COUNT }, (_, index) => state(index));

function rulesOver(iptables: RefusingIptables): ProxyRules {
  return new ProxyRules({
    family: ipv4,
    iptables,
    render: renderOptionsFor(ipv4, { matches: [] }),
    node: { name: 'node-a' },
    log: pino({ level: 'silent' }),
  });
}

/** The same Services, told so few at a time that no large change is made of them. */
async function bySmallSteps(): Promise<RefusingIptables> {
  const iptables = new RefusingIptables();
  const rules = rulesOver(iptables);
  for (let index = 0; index < COUNT; index += 500) await rules.sync(states.slice(index, index + 500), false);
  return iptables;
}

for (const { variant, least, most } of [
  { variant: 'legacy', least: 1, most: 1 },
  { variant: 'nft', least: 3, most: 5 },
] as const) {
  describe(`many Services at once, iptables-${variant}`, () => {
    test('written while they are made, they lead to the rules of small steps, and are counted', async () => {
      const iptables = new RefusingIptables(variant);
      const result = await rulesOver(iptables).sync(states, true);
      const expected = await bySmallSteps();
      for (const table of tables) assert.equal(iptables.rules.save(table), expected.rules.save(table));
      assert.ok(iptables.restores >= least && iptables.restores <= most, `${iptables.restores} documents`);
      assert.equal(result.transactions, iptables.restores + 1);
      const builtIn = 4 + 3;
      const standing = [...tables].reduce((sum, table) => sum + iptables.rules.tables[table]!.size, 0);
      assert.equal(result.chainsWritten, standing - builtIn);
      const again = await rulesOver(iptables).sync(states, true);
      assert.equal(again.bytes, 0, 'a new process finds nothing to change');
    });

    test('changes of chains that all stand already are counted', async () => {
      const iptables = new RefusingIptables(variant);
      const rules = rulesOver(iptables);
      await rules.sync(states, true);
      const changed = states.map(([key, { service, slices }]): ReturnType<typeof stateOf> => {
        const fewer = slices.map((slice) => ({ ...slice, endpoints: slice.endpoints.slice(1) }));
        return [key, { service, slices: fewer }];
      });
      const result = await rules.sync(changed.slice(1, 1500), false);
      const { full, transactions, entries } = result;
      assert.deepEqual({ full, transactions, entries }, { full: false, transactions: 2, entries: -1527 });
    });

    test('a Service that is refused goes without rules, the others have theirs', async () => {
      const iptables = new RefusingIptables(variant);
      iptables.refuse = (line) => (line.endsWith(' 10.244.1.7:8080') ? 'whatever' : undefined);
      const rules = rulesOver(iptables);
      await rules.sync(states, true);
      assert.deepEqual([...rules.refusals.keys()], ['load/svc-263']);
      const nat = iptables.rules.save('nat');
      assert.ok(!nat.includes('10.96.1.7/') && nat.includes('10.96.1.8/') && nat.includes('10.96.9.195/'));
    });

    test('after a failure everything is written the next time, and no two write at a time', async () => {
      const iptables = new RefusingIptables(variant);
      const rules = rulesOver(iptables);
      iptables.busy = true;
      await assert.rejects(rules.sync(states, true), /lock/);
      iptables.busy = false;
      await rules.sync([], false);
      const expected = await bySmallSteps();
      for (const table of tables) assert.equal(iptables.rules.save(table), expected.rules.save(table));
    });

    test('all Services are known though the kernel could not be read', async () => {
      const iptables = new RefusingIptables(variant);
      const rules = rulesOver(iptables);
      const { save } = iptables;
      iptables.save = () => Promise.reject(new Error('cannot be read'));
      await assert.rejects(rules.sync(states, true), /cannot be read/);
      iptables.save = save;
      await rules.sync([], false);
      assert.ok(iptables.rules.save('nat').includes('10.96.9.195/'));
    });
  });
}
