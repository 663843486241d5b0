import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Known, LeaseRecord, WatchHandler } from '../../../../src/leases/etcd/records.ts';
import { EtcdTracker, type TrackedStore } from '../../../../src/leases/etcd/tracker.ts';
import { LeaseHolders } from '../../../../src/leases/plan/holders.ts';
import { parsePrefix } from '../../../../src/model/address.ts';
import { makeLog } from '../../../../src/process/log.ts';

const log = makeLog({ level: 'fatal', format: 'json', name: 'test' });

const value = (host: number): string =>
  `{"PublicIP":"192.0.2.${host}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:${String(host).padStart(2, '0')}"}}`;

function record(third: number, revision: bigint, host = third): LeaseRecord {
  return {
    name: `10.244.${third}.0-24`,
    value: value(host),
    created: Number(revision),
    revision,
    etcdLease: '7',
  };
}

/** An etcd whose listings are answered when the test says so; `watch` hands out its handler. */
class FakeStore implements TrackedStore {
  content: LeaseRecord[] = [];
  revision = 10n;
  handler: WatchHandler | undefined;
  /** Revisions from which was watched. */
  readonly watched: bigint[] = [];
  hold: Promise<void> | undefined;

  async list(onRecord: (record: LeaseRecord, revision: bigint) => void) {
    const { content, revision } = this;
    await this.hold;
    for (const each of content) onRecord(each, revision);
    return { config: '{}', revision };
  }

  watch(revision: bigint, handler: WatchHandler, signal: AbortSignal): Promise<'compacted' | 'stopped'> {
    this.watched.push(revision);
    this.handler = handler;
    handler.connected(this.revision);
    return new Promise((resolve) => {
      if (signal.aborted) resolve('stopped');
      signal.addEventListener('abort', () => resolve('stopped'));
    });
  }

  /** Whether its history goes on from what is known. */
  same = true;
  known: Known | undefined;

  async remembers(known: Known): Promise<boolean> {
    this.known = known;
    return this.same;
  }

  keyOf(name: string): string {
    return name;
  }

  reconnect(): void {}

  certificatesChanged(): boolean {
    return false;
  }
}

async function until(check: () => boolean): Promise<void> {
  for (let turn = 0; turn < 1000 && !check(); turn++) await new Promise((resolve) => setImmediate(resolve));
  assert.ok(check());
}

async function tracked(store: FakeStore): Promise<EtcdTracker> {
  const tracker = new EtcdTracker(store, log, { leases: () => {}, config: () => {}, works: () => true });
  tracker.start();
  await until(() => store.handler !== undefined && tracker.connected);
  return tracker;
}

const names = (tracker: EtcdTracker): string[] => [...tracker.leases.keys()].sort();

describe('the mirror of the leases in etcd', () => {
  it('a listing that is of before what the watch has told meanwhile undoes none of it', async () => {
    const store = new FakeStore();
    store.content = [record(1, 5n), record(2, 6n), record(3, 7n)];
    const tracker = await tracked(store);
    let answer = (): void => {};
    store.hold = new Promise((resolve) => {
      answer = resolve;
    });
    const refreshed = tracker.refresh();
    store.handler!.events([{ type: 'put', record: record(4, 11n) }], 11n);
    store.handler!.events([{ type: 'put', record: record(1, 12n, 99) }], 12n);
    store.handler!.events([{ type: 'delete', name: record(2, 0n).name, revision: 13n }], 13n);
    store.handler!.config('{"new":1}', 14n);
    store.handler!.events([], 14n);
    answer();
    await refreshed;
    assert.deepEqual(names(tracker), ['10.244.1.0-24', '10.244.3.0-24', '10.244.4.0-24']);
    assert.equal(tracker.records.get('10.244.1.0-24')?.value, value(99));
    assert.equal(tracker.configText, '{"new":1}');
    store.revision = 14n;
    tracker.reconnect();
    await until(() => store.watched.length === 2);
    assert.deepEqual(store.watched, [11n, 15n]);
    store.handler!.config('{"old":1}', 12n);
    assert.equal(tracker.configText, '{"new":1}', 'what is told again is of before');
    await tracker.stop();
  });

  it('a watch goes on where it was, unless etcd has another history by then: all is listed', async () => {
    const store = new FakeStore();
    store.content = [record(1, 5n), record(2, 8n), record(3, 7n)];
    const tracker = await tracked(store);
    tracker.reconnect();
    await until(() => store.watched.length === 2);
    const { newest, ...known } = store.known!;
    assert.equal(newest?.name, record(2, 8n).name);
    assert.deepEqual(known, { revision: 10n, config: '{}', leases: 3 });
    store.same = false;
    store.content = [record(1, 5n, 99), record(4, 9n)];
    store.revision = 20n;
    tracker.reconnect();
    await until(() => store.watched.length === 3);
    assert.deepEqual(store.watched, [11n, 11n, 21n]);
    assert.deepEqual(names(tracker), ['10.244.1.0-24', '10.244.4.0-24']);
    await tracker.stop();
  });

  it('the history is asked about as of the configuration, where the watch told that last', async () => {
    const store = new FakeStore();
    store.content = [record(1, 5n)];
    const tracker = await tracked(store);
    store.handler!.config('{"new":1}', 14n);
    tracker.reconnect();
    await until(() => store.watched.length === 2);
    assert.deepEqual([store.known?.revision, store.known?.config], [14n, '{"new":1}']);
    store.revision = 20n;
    store.handler!.events([{ type: 'put', record: record(2, 20n) }], 20n);
    tracker.reconnect();
    await until(() => store.watched.length === 3);
    assert.equal(store.known?.revision, 20n);
    await tracker.stop();
  });

  it('a listing is newer than what the watch tells late', async () => {
    const store = new FakeStore();
    const tracker = await tracked(store);
    store.content = [record(1, 15n, 99)];
    store.revision = 15n;
    let answer = (): void => {};
    store.hold = new Promise((resolve) => {
      answer = resolve;
    });
    const refreshed = tracker.refresh();
    store.handler!.events([{ type: 'put', record: record(1, 11n) }], 11n);
    store.handler!.events([{ type: 'put', record: record(2, 12n) }], 12n);
    answer();
    await refreshed;
    assert.deepEqual(names(tracker), ['10.244.1.0-24']);
    assert.equal(tracker.records.get('10.244.1.0-24')?.value, value(99));
    await tracker.stop();
  });

  it('an etcd that was restored from a backup is listed anew, and watched from where it is', async () => {
    const store = new FakeStore();
    store.content = [record(1, 900n), record(2, 950n)];
    store.revision = 1000n;
    const tracker = await tracked(store);
    store.revision = 40n;
    store.content = [record(1, 30n), record(3, 31n)];
    tracker.reconnect();
    await until(() => store.watched.includes(41n));
    assert.deepEqual(names(tracker), ['10.244.1.0-24', '10.244.3.0-24']);
    store.handler!.events([{ type: 'put', record: record(4, 41n) }], 41n);
    assert.ok(names(tracker).includes('10.244.4.0-24'));
    await tracker.stop();
  });

  it('in an etcd that was set up anew, those who were there come before those who come now', async () => {
    const store = new FakeStore();
    store.content = [record(1, 900n)];
    store.revision = 1000n;
    const tracker = await tracked(store);
    store.revision = 5n;
    store.content = [record(1, 4n)];
    tracker.reconnect();
    await until(() => store.watched.includes(6n));
    store.handler!.events([{ type: 'put', record: record(2, 6n, 1) }], 6n);
    const refusals = new LeaseHolders([parsePrefix('10.244.0.0/16')]).judge(
      tracker.belief.followed(tracker.leases).values(),
    );
    assert.deepEqual([...refusals.keys()], ['10.244.2.0-24'], 'it says that it has the MAC of the first');
    await tracker.stop();
  });

  it('a member that lags behind is listed once and then waited for', async () => {
    const store = new FakeStore();
    store.revision = 50n;
    const tracker = await tracked(store);
    store.handler!.events([{ type: 'put', record: record(1, 60n) }], 60n);
    store.content = [record(1, 60n)];
    const list = store.list.bind(store);
    let listings = 0;
    // Listings are answered by the leader's knowledge, watches by the member's own.
    store.list = async (onRecord) => {
      listings++;
      await list(onRecord);
      return { config: '{}', revision: 60n };
    };
    tracker.reconnect();
    await until(() => store.watched.length === 3 && tracker.connected);
    assert.deepEqual(store.watched, [51n, 61n, 61n]);
    assert.equal(listings, 1);
    assert.deepEqual(names(tracker), ['10.244.1.0-24']);
    await tracker.stop();
  });
});
