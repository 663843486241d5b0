import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import pino from 'pino';
import { EtcdSource } from '../../../src/leases/etcd/source.ts';
import { EtcdLeases } from '../../../src/leases/etcd/store.ts';
import { parseNetworkConfig } from '../../../src/leases/plan/network-config.ts';
import { parseAddress } from '../../../src/model/address.ts';
import { defaultNetworkConfig, etcdPrefix, Lab } from '../../lab/lab.ts';
import type { LabNode } from '../../lab/node.ts';
import { assertConverges, flannelLease } from '../overlay/state.ts';

const subnets = `${etcdPrefix}/subnets/`;

describe("etcd's store", () => {
  let lab: Lab;

  before(async () => {
    lab = await Lab.start({ nodes: 2 });
  });
  after(() => lab.stop());

  it('a watch that catches up in several answers says of each how far it has come', async () => {
    const { header } = await lab.etcd.client.get('/').exec();
    const first = BigInt(header.revision) + 1n;
    const changes = 2500;
    for (let done = 0; done < changes; done += 100)
      await Promise.all(
        Array.from({ length: 100 }, (_, index) => lab.etcd.put(`${subnets}x`, String(done + index))),
      );
    const store = new EtcdLeases({ endpoints: [lab.etcd.localEndpoint], prefix: etcdPrefix });
    const abort = new AbortController();
    const answers: { last: bigint | undefined; revision: bigint }[] = [];
    let seen = 0;
    const done = store.watch(
      first,
      {
        connected: () => {},
        config: () => {},
        events: (events, revision) => {
          const last = events.at(-1);
          answers.push({ last: last?.type === 'put' ? last.record.revision : undefined, revision });
          seen += events.length;
          if (seen === changes) abort.abort();
        },
      },
      abort.signal,
    );
    try {
      assert.equal(await done, 'stopped');
    } finally {
      store.close();
      await lab.etcd.delete(`${subnets}x`);
    }
    assert.ok(answers.length > 1, 'etcd sends so many in several answers');
    for (const { last, revision } of answers) assert.equal(revision, last);
  });

  it('our own lease is the same object as long as it says the same: that is how looks at the whole node are saved', async () => {
    const options = { endpoints: [lab.etcd.localEndpoint], prefix: etcdPrefix };
    const source = new EtcdSource(options, 60, pino({ level: 'silent' }));
    const claim = (mac: string): void =>
      source.claim({
        config: parseNetworkConfig(JSON.stringify(defaultNetworkConfig)),
        identity: {
          publicIps: [parseAddress('192.0.2.200')],
          vtepMacs: new Map([['ipv4', mac]]),
          previous: [],
          avoid: [],
        },
      });
    try {
      source.start(() => {});
      claim('02:00:00:00:00:c8');
      const own = await lab.waitFor('a lease', () => source.own());
      for (let again = 0; again < 20; again++) {
        claim('02:00:00:00:00:c8');
        await setTimeout(20);
        assert.equal(source.own(), own);
      }
      claim('02:00:00:00:00:c9');
      await lab.waitFor('another', () => source.own() !== own);
    } finally {
      await source.stop();
      for (const { key } of await lab.etcd.keys(subnets)) await lab.etcd.delete(key);
    }
  });

  it('full: what it refuses is said with what to do, and not that it does not answer', async () => {
    const store = new EtcdLeases({ endpoints: [lab.etcd.localEndpoint], prefix: etcdPrefix });
    const noSpace = (action: 1 | 2) => lab.etcd.client.maintenance.alarm({ action, memberID: '0', alarm: 1 });
    await noSpace(1);
    try {
      await assert.rejects(
        store.create('10.244.200.0-24', '{}'),
        /grant an etcd lease: etcd at \S+ refuses: it is full: compact and defragment it.*alarm disarm/,
      );
      assert.ok((await store.list(() => {})).config, 'it can be read');
    } finally {
      await noSpace(2);
      store.close();
    }
  });

  it('set up anew, without what was in it: nodes get their subnets again, and learn of new ones', async () => {
    await Promise.all(lab.nodes.map((node) => node.startAgent()));
    for (const node of lab.nodes) await assertConverges(lab, node);
    const names = async (): Promise<string[]> => (await lab.etcd.keys(subnets)).map(({ key }) => key);
    const before = await names();
    assert.equal(before.length, 2);
    await lab.etcd.stop();
    lab.etcd.wipe();
    await lab.etcd.start();
    await lab.etcd.put(`${etcdPrefix}/config`, JSON.stringify(defaultNetworkConfig));
    await lab.waitFor('the leases again', async () => (await names()).join() === before.join());
    const { key, value } = flannelLease(40, '02:00:00:00:00:40');
    await lab.etcd.put(key, value);
    for (const node of lab.nodes) await assertConverges(lab, node);
    // By the new numbers it was made after the lease whose place it takes.
    const [own] = before as [string];
    const across = own.replace('-24', '-25');
    const taken = await lab.etcd.get(own);
    await lab.etcd.delete(own);
    await lab.etcd.put(across, flannelLease(0, '02:00:00:00:00:50', '192.0.2.50').value);
    await lab.waitFor('the lease again', async () => (await lab.etcd.get(own)) === taken);
    await lab.waitFor(
      'what was made across it to go',
      async () => (await lab.etcd.get(across)) === undefined,
    );
  });

  it('restored from a backup, and as far as it was again before the agents reach it: they see what is there now', async () => {
    const [one] = lab.nodes as [LabNode, LabNode];
    await Promise.all(lab.nodes.map((node) => node.agent!.stop()));
    for (const { key } of await lab.etcd.keys(subnets)) await lab.etcd.delete(key);
    await lab.etcd.stop();
    lab.etcd.backUp();
    await lab.etcd.start();
    await Promise.all(lab.nodes.map((node) => node.startAgent()));
    const undone = flannelLease(40, '02:00:00:00:00:40');
    await lab.etcd.put(undone.key, undone.value);
    for (const node of lab.nodes) await assertConverges(lab, node);
    const file = readFileSync(one.subnetFile, 'utf8');
    const third = Number(/FLANNEL_SUBNET=10\.244\.(\d+)\.1/.exec(file)![1]);
    const own = (await lab.etcd.keys(subnets)).find(({ key }) => key.endsWith(`10.244.${third}.0-24`))!;
    const { header } = await lab.etcd.client.get('/').exec();
    const cut = [
      'add table inet lab',
      'add chain inet lab cut { type filter hook output priority 0; }',
      'add rule inet lab cut tcp dport 2379 drop',
    ];
    for (const node of lab.nodes) await node.exec('nft', ['-f', '-'], { input: `${cut.join('\n')}\n` });
    await lab.etcd.stop();
    lab.etcd.restore();
    await lab.etcd.start();
    // Somebody who starts now finds the subnet free.
    const lease = lab.etcd.client.lease(600);
    const taken = flannelLease(third, '02:00:00:00:00:50', '192.0.2.50');
    await lease.put(taken.key).value(taken.value);
    for (const name of [41, 42, 43, 44, 45, 46]) {
      const { key, value } = flannelLease(name, `02:00:00:00:00:${name}`);
      await lab.etcd.put(key, value);
    }
    const now = await lab.etcd.client.get('/').exec();
    assert.ok(BigInt(now.header.revision) > BigInt(header.revision), 'no number tells what happened');
    for (const node of lab.nodes) await node.exec('nft', ['delete', 'table', 'inet', 'lab']);
    await lab.waitFor('the lease that was lost', async () => (await lab.etcd.get(own.key)) === own.value);
    for (const node of lab.nodes) await assertConverges(lab, node);
    const mine = (await lab.etcd.keys(subnets)).find(({ key }) => key === own.key)!;
    assert.notEqual(mine.lease, await lease.grant(), 'it lives and dies with its node');
    await lease.revoke();
    await lab.waitFor('both leases and the six', async () => (await lab.etcd.keys(subnets)).length === 2 + 6);
  });
});
