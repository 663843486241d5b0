import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { LeaseHolders, macContested } from '../../../src/leases/plan/holders.ts';
import { type Lease, parseLease } from '../../../src/leases/plan/lease.ts';
import { TENURE_MS, Tenure } from '../../../src/leases/plan/tenure.ts';
import { ipv4, parsePrefix } from '../../../src/model/address.ts';

const networks = [parsePrefix('10.244.0.0/16')];

function lease(third: number, host: number, mac: number, revision = third): Lease {
  const value = {
    PublicIP: `192.0.2.${host}`,
    BackendType: 'vxlan',
    BackendData: { VNI: 1, VtepMAC: `02:00:00:00:00:${String(mac).padStart(2, '0')}` },
  };
  const order = { created: revision, changed: revision };
  return parseLease(`10.244.${third}.0-24`, JSON.stringify(value), order);
}

/** A source whose leases are said by `say`, and what is followed of them. */
function source(works: (lease: Lease) => boolean = () => true) {
  const tenure = new Tenure(works);
  const leases = new Map<string, Lease>();
  const say = (name: string, said: Lease | undefined, now: number, given = false): void => {
    const current = tenure.said(name, leases.get(name), { lease: said, given }, now);
    if (current === undefined) leases.delete(name);
    else leases.set(name, current);
  };
  const followed = (name: string): string | undefined =>
    tenure.followed(leases).get(name)?.families[0]?.publicIp.text;
  return { tenure, say, followed, all: () => tenure.followed(leases) };
}

const name = '10.244.7.0-24';
const owner = lease(7, 7, 7);
const stranger = lease(7, 66, 66, 100);

describe('who had a subnet is believed for a moment longer', () => {
  it('what another writes over a lease is followed when it has stood undisputed, and not before', () => {
    const { tenure, say, followed } = source();
    say(name, owner, 0);
    say(name, stranger, 10);
    assert.equal(followed(name), '192.0.2.7');
    assert.deepEqual([...tenure.expire(10 + TENURE_MS - 1)], []);
    assert.equal(tenure.next, 10 + TENURE_MS);
    assert.deepEqual([...tenure.expire(10 + TENURE_MS)], [name]);
    assert.equal(followed(name), '192.0.2.66');
    assert.equal(tenure.next, undefined);
  });

  it('an owner that keeps writing its lease back is believed for ever, as the one that it was', () => {
    const { tenure, say, followed, all } = source();
    say(name, owner, 0);
    for (let now = 0; now < 10 * TENURE_MS; now += 500) {
      say(name, lease(7, 66, 66, now), now);
      say(name, undefined, now + 1);
      say(name, lease(7, 67, 67, now), now + 2);
      say(name, undefined, now + 3, true);
      assert.equal(followed(name), '192.0.2.7');
      say(name, lease(7, 7, 7, now), now + 499);
      assert.equal(tenure.expire(now + 499).size, 0);
      assert.equal(all().get(name), owner);
    }
  });

  it('what is followed is a map of all that are, in whichever way it is read', () => {
    const { say, all } = source();
    for (const third of [7, 8, 9, 10]) say(`10.244.${third}.0-24`, lease(third, third, third), 0);
    say('10.244.8.0-24', undefined, 1);
    say('10.244.9.0-24', undefined, 1, true);
    say('10.244.10.0-24', lease(10, 66, 66), 1);
    const followed = all();
    const names = ['10.244.7.0-24', '10.244.10.0-24', '10.244.8.0-24'];
    assert.deepEqual([...followed.keys()], names);
    assert.equal(followed.size, names.length);
    const hosts = ['192.0.2.7', '192.0.2.10', '192.0.2.8'];
    const host = (one: Lease): string | undefined => one.families[0]?.publicIp.text;
    assert.deepEqual([...followed.values()].map(host), hosts);
    const called: [string, string | undefined][] = [];
    followed.forEach((one, of) => {
      called.push([of, host(one)]);
    });
    assert.deepEqual(
      called,
      [...followed].map(([of, one]) => [of, host(one)]),
    );
    assert.deepEqual(
      ['10.244.7.0-24', '10.244.8.0-24', '10.244.9.0-24', '10.244.10.0-24'].map((of) => followed.has(of)),
      [true, true, false, true],
    );
  });

  it('values that change all the time do not put it off', () => {
    const { tenure, say, followed } = source();
    say(name, owner, 0);
    for (let now = 0; now < TENURE_MS; now += 100) say(name, lease(7, 60, now / 100, 200 + now), now);
    tenure.expire(TENURE_MS);
    assert.equal(followed(name), '192.0.2.60');
  });

  it('a lease that is gone is followed for a moment, unless it was a reservation; nobody takes its place meanwhile', () => {
    for (const [given, first] of [
      [false, '192.0.2.7'],
      [true, undefined],
    ] as const) {
      const { tenure, say, followed } = source();
      say(name, owner, 0);
      say(name, undefined, 0, given);
      assert.equal(followed(name), first);
      say(name, stranger, 1);
      assert.equal(followed(name), first);
      tenure.expire(TENURE_MS);
      assert.equal(followed(name), '192.0.2.66');
    }
  });

  it('a lease of another backend than that in force is worth nothing, and what comes in its place is followed at once', () => {
    const { say, followed } = source(({ vni }) => vni === 2);
    say(name, owner, 0);
    say(name, stranger, 1);
    assert.equal(followed(name), '192.0.2.66');
  });

  it('a subnet of another size across one that is leaving waits, too', () => {
    const { say, all } = source();
    say(name, owner, 0);
    say(name, undefined, 1);
    const half = { ...lease(7, 66, 66, 100), name: '10.244.7.0-25' };
    say(
      half.name,
      { ...half, families: [{ ...half.families[0]!, subnet: parsePrefix('10.244.7.0/25') }] },
      2,
    );
    const refusals = new LeaseHolders(networks).judge(all().values());
    assert.deepEqual([...refusals.keys()], [half.name]);
  });

  it('a node that takes another subnet is followed there at once, and where it was for a moment', () => {
    const { say, all, tenure } = source();
    const holders = new LeaseHolders(networks);
    say(name, owner, 0);
    say(name, undefined, 1);
    const moved = lease(9, 7, 7, 100);
    say(moved.name, moved, 1);
    assert.deepEqual([...holders.judge(all().values()).keys()], []);
    assert.equal(all().size, 2);
    assert.equal(
      holders.replace(moved, undefined),
      false,
      'what the two share is not taken away with one of them',
    );
    // Somebody else who says so is not believed once the owner is back.
    say(name, lease(7, 7, 7, 101), 2);
    assert.deepEqual([...holders.judge(all().values()).keys()], [moved.name]);
    say(name, undefined, 3);
    tenure.expire(3 + TENURE_MS);
    assert.deepEqual([...holders.judge(all().values()).keys()], []);
  });

  it('with the MAC of a lease that leaves, nobody is believed at another address', () => {
    const { say, all } = source();
    say(name, owner, 0);
    say(name, undefined, 1);
    say('10.244.9.0-24', lease(9, 66, 7, 100), 1);
    assert.deepEqual([...new LeaseHolders(networks).judge(all().values()).keys()], ['10.244.9.0-24']);
  });
});

describe('whether our VTEP MAC is believed to be ours by who starts now', () => {
  const own = { family: ipv4, mac: '02:00:00:00:00:07' };

  it('it is not where another lease in the network said before our last word that it has it', () => {
    const cases: [string, Lease, boolean][] = [
      ['said before', lease(9, 66, 7, 5), true],
      ['said afterwards', lease(9, 66, 7, 8), false],
      ['at one time, with a name that comes before', lease(1, 66, 7, 7), true],
      ['another MAC', lease(9, 66, 8, 5), false],
      ['our own', owner, false],
    ];
    for (const [what, other, contested] of cases)
      assert.equal(macContested(owner, own, [owner, other], networks), contested, what);
  });

  it('it is where the other is not in the pod network, and where we do not say it any more', () => {
    const earlier = lease(9, 66, 7, 5);
    assert.equal(macContested(owner, own, [earlier], [parsePrefix('10.245.0.0/16')]), false);
    assert.equal(macContested(owner, { ...own, mac: '02:00:00:00:00:99' }, [earlier], networks), false);
  });
});
