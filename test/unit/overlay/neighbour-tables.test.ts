import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { fullTables, neighbourCount } from '../../../src/overlay/neighbour-tables.ts';

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
    assert.deepEqual(fullTables([table('ipv4', 900), table('ipv6', 0)], 0), []);
    const [problem] = fullTables([table('ipv4', 3), table('ipv6', 955)], 5);
    assert.equal(problem?.state, 'warning');
    assert.deepEqual(fullTables([table('ipv4', 955)], 500), [], 'our own are permanent');
    assert.match(problem?.detail ?? '', /950 of at most 1024 .*net\.ipv6\.neigh\.default\.gc_thresh3/);
  });
});
