import assert from 'node:assert/strict';
import { test } from 'node:test';
import pino from 'pino';
import type { NftTable } from '../../../../src/kernel/nft-table.ts';
import { ipv4 } from '../../../../src/model/address.ts';
import { TwillError } from '../../../../src/model/error.ts';
import type { ElementChange } from '../../../../src/model/set-element.ts';
import { NftRules } from '../../../../src/services/nftables/rules.ts';
import { nftOptionsFor, serviceObject, sliceObject, stateOf } from '../../../lab/service-fixtures.ts';

/** A table that is empty and takes everything. */
function emptyTable(change: Partial<NftTable> = {}): NftTable {
  return {
    family: ipv4,
    name: 'x',
    apply: async () => {},
    write: async () => 1,
    stands: async () => true,
    sets: async () => new Set(),
    elements: async () => {},
    chains: async () => [],
    listen: () => () => {},
    close: () => {},
    ...change,
  };
}

function makeRules(table: NftTable): NftRules {
  const log = pino({ level: 'silent' });
  return new NftRules({ table, render: nftOptionsFor(ipv4), node: { name: 'n' }, log });
}

function state(index: number): ReturnType<typeof stateOf> {
  const name = `ns/s${index}`;
  const clusterIP = `10.96.${index >> 8}.${index & 255}`;
  return stateOf(
    serviceObject(name, { clusterIP, ports: [{ name: 'http', port: 80 }] }),
    sliceObject(name, [{ name: 'http', port: 8080 }], [{ ip: '10.244.0.1' }]),
  );
}

test('Services that are told while the kernel cannot be read get their rules once it can, though they are not told again', async () => {
  let readable = false;
  const rules = makeRules(
    emptyTable({
      sets: async () => {
        if (!readable) throw new TwillError('timeout', 'no answer');
        return new Set();
      },
    }),
  );
  await assert.rejects(rules.sync([state(1), state(2)], true), { code: 'timeout' });
  readable = true;
  // What has changed meanwhile counts, not what was told first.
  await rules.sync([['ns/s2', { service: undefined, slices: [] }]], true);
  assert.ok(rules.isServed('10.96.0.1'));
  assert.ok(!rules.isServed('10.96.0.2'));
});

test('many Services hold nothing else in the process up, and what leads into the rules is written last', async () => {
  const written: string[] = [];
  const write = async (changes: readonly ElementChange[]): Promise<number> => {
    for (const { set, elements } of changes) for (const _ of elements) written.push(set);
    return 1;
  };
  let turns = 0;
  let running = true;
  const others = (): void => {
    turns++;
    if (running) setImmediate(others);
  };
  setImmediate(others);
  // 10,000 take hundreds of milliseconds on the fastest machine; a slice has ten.
  await makeRules(emptyTable({ write })).sync(
    Array.from({ length: 10_000 }, (_, index) => state(index)),
    true,
  );
  running = false;
  assert.ok(turns >= 5, `${turns} turns`);
  const first = written.indexOf('services');
  assert.deepEqual(new Set(written.slice(first)), new Set(['services']));
  assert.equal(written.length - first, 10_000);
});
