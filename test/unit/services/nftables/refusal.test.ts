import assert from 'node:assert/strict';
import { test } from 'node:test';
import pino from 'pino';
import { MessageWriter } from '../../../../src/kernel/netlink/codec.ts';
import { batchOf, type TableChange } from '../../../../src/kernel/netlink/nftables.ts';
import { ipv4 } from '../../../../src/model/address.ts';
import { mostShapes } from '../../../../src/services/nftables/plan/names.ts';
import { NftRules } from '../../../../src/services/nftables/rules.ts';
import { emptyTable } from '../../../lab/empty-table.ts';
import { nftOptionsFor, serviceObject, sliceObject, stateOf } from '../../../lab/service-fixtures.ts';

/** @param affinitySeconds for each number that nobody else has there is a chain of its own */
function state(name: string, index: number, affinitySeconds?: number): ReturnType<typeof stateOf> {
  const affinity = {
    sessionAffinity: 'ClientIP',
    sessionAffinityConfig: { clientIP: { timeoutSeconds: affinitySeconds } },
  };
  const service = serviceObject(`ns/${name}`, {
    clusterIP: `10.96.${index >> 8}.${index & 255}`,
    ports: [{ name: 'http', port: 80 }],
    ...(affinitySeconds === undefined ? {} : affinity),
  });
  return stateOf(service, sliceObject(`ns/${name}`, [{ name: 'http', port: 8080 }], [{ ip: '10.244.0.1' }]));
}

test('numbers of what a Service was like before are given back before they run out', async () => {
  const log = pino({ level: 'silent' });
  const rules = new NftRules({ table: emptyTable(), render: nftOptionsFor(ipv4), node: { name: 'n' }, log });
  await rules.sync([state('plain', 0)], true);
  let looks = 0;
  for (let seconds = 1; seconds <= 1200; seconds++)
    looks += Number((await rules.sync([state('s', 1, seconds)], false)).full);
  // All is looked at once then: what nobody leads to can go.
  assert.equal(looks, 1);
  assert.ok(rules.desired.chains.length < 600, `${rules.desired.chains.length} chains`);
});

test('a Service for which there is no number left goes without rules; the others have theirs, and it is tried again', async () => {
  const render = nftOptionsFor(ipv4);
  const rules = new NftRules({
    table: emptyTable(),
    render,
    node: { name: 'n' },
    log: pino({ level: 'silent' }),
  });
  const plain = state('plain', 0);
  const many = Array.from({ length: mostShapes - 1 }, (_, index) => state(`s${index}`, index + 1, index + 1));
  const beyond = state('beyond', 5000, 50_000);
  const later = state('later', 5001);
  await rules.sync([plain, ...many, beyond, later], true);
  assert.deepEqual([...rules.refusals.keys()], ['ns/beyond']);
  assert.match(rules.refusals.get('ns/beyond')!, /more than 4095 different/);
  assert.ok(rules.isServed('10.96.19.137') && !rules.isServed('10.96.19.136'));
  assert.equal(rules.desired.elements.services.size, mostShapes + 1);

  // One that had rules and asks for too much loses them.
  await rules.sync([state('plain', 0, 50_001)], false);
  assert.deepEqual([...rules.refusals.keys()], ['ns/beyond', 'ns/plain']);
  assert.ok(!rules.isServed('10.96.0.0'));

  await rules.sync([state('s0', 1)], true);
  await rules.sync([beyond, plain], true);
  assert.equal(rules.refusals.size, 0);
  assert.ok(rules.isServed('10.96.19.136') && rules.isServed('10.96.0.0'));
});

/** net.core.wmem_default: of more at once the kernel takes nothing (EMSGSIZE). */
const SEND_BUFFER = 212_992;

test('however many kinds of Services there are, no transaction is longer than the send buffer', async () => {
  const chains = new Map<string, { name: string; hook: string; rules: Buffer[] }>();
  const lengths: number[] = [];
  const write = async (changes: readonly TableChange[]): Promise<number> => {
    const writer = new MessageWriter(0).reset(1);
    batchOf({ af: ipv4.af, name: 'twill-services' }, changes).write(writer);
    for (const change of changes)
      if ('chain' in change) chains.set(change.chain, { name: change.chain, hook: '', rules: [] });
    return lengths[lengths.push(writer.finish().length) - 1]!;
  };
  const table = emptyTable({ write, chains: async () => [...chains.values()] });
  const log = pino({ level: 'silent' });
  const rules = new NftRules({ table, render: nftOptionsFor(ipv4), node: { name: 'n' }, log });
  const all = Array.from({ length: mostShapes }, (_, index) => state(`s${index}`, index, 80_000 + index));
  await rules.sync(all, true);
  assert.equal(chains.size, 2 * mostShapes);
  await rules.sync(
    all.slice(1).map(([key]) => [key, { service: undefined, slices: [] }] as const),
    true,
  );
  assert.ok(Math.max(...lengths) < SEND_BUFFER, `${Math.max(...lengths)} bytes`);
});
