import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseLease } from '../../../src/leases/plan/lease.ts';
import { parseNetworkConfig } from '../../../src/leases/plan/network-config.ts';
import { fullTables, neighbourCount, permanentNeighbours } from '../../../src/overlay/neighbour-tables.ts';

const head = 'entries  allocs   destroys hash_grows lookups  hits     res_failed rcv_probes_mcast';

describe('neighbour tables', () => {
  it("reads the kernel's count, which every processor's line repeats", () => {
    const text = `${head}\n00001380 00032556 0002a717 00000006\n00001380 000296b5 00030174 00000004\n`;
    assert.equal(neighbourCount(text), 0x1380);
    assert.equal(neighbourCount(`${head}\n`), undefined);
    assert.equal(neighbourCount(''), undefined);
  });

  it('tells a table that is nearly full, with the setting to change', () => {
    const table = (family: 'ipv4' | 'ipv6', entries: number) => ({ family, entries, limit: 1024 });
    assert.deepEqual(fullTables([table('ipv4', 900), table('ipv6', 0)], { ipv4: 0, ipv6: 0 }), []);
    const [problem] = fullTables([table('ipv4', 3), table('ipv6', 955)], { ipv4: 0, ipv6: 5 });
    assert.equal(problem?.state, 'warning');
    assert.deepEqual(fullTables([table('ipv4', 955)], { ipv4: 500, ipv6: 0 }), [], 'our own are permanent');
    assert.match(problem?.detail ?? '', /950 of at most 1024 .*net\.ipv6\.neigh\.default\.gc_thresh3/);
  });

  it('counts as permanent the nodes that are reached through the tunnel alone', () => {
    const leases = Array.from({ length: 20 }, (_, third) =>
      parseLease(`10.244.${third}.0-24`, `{"PublicIP":"192.0.2.${third + 1}","BackendType":"alloc"}`),
    );
    const count = (backend: object): number => {
      const config = parseNetworkConfig(JSON.stringify({ Network: '10.244.0.0/16', Backend: backend }));
      return permanentNeighbours(config.backend, leases, ({ text }) => text !== '192.0.2.7').ipv4;
    };
    assert.equal(count({ Type: 'vxlan' }), 20);
    assert.equal(count({ Type: 'vxlan', DirectRouting: true }), 1);
    assert.equal(count({ Type: 'host-gw' }), 0);
  });
});
