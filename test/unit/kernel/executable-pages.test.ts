import assert from 'node:assert/strict';
import { it } from 'node:test';
import { unchangedMappings } from '../../../src/kernel/executable-pages.ts';

const file = '/usr/bin/node';

interface Given {
  readonly path?: string;
  readonly rights?: string;
  readonly lines?: Readonly<Record<string, number | undefined>>;
}

/** As the kernel shows a mapping (fs/proc/task_mmu.c, show_smap). */
function mapping(range: string, { path = file, rights = 'r-xp', lines = {} }: Given = {}): string {
  const all = {
    Size: 64,
    Private_Clean: 64,
    Private_Dirty: 0,
    Anonymous: 0,
    AnonHugePages: 0,
    Swap: 0,
    ...lines,
  };
  const shown = Object.entries(all).flatMap(([name, value]) =>
    value === undefined ? [] : [`${`${name}:`.padEnd(16)}${String(value).padStart(8)} kB`],
  );
  return [
    `${range} ${rights} 00000000 fe:00 260689                 ${path}`,
    ...shown,
    'VmFlags: rd ex mr mw me',
    '',
  ].join('\n');
}

it('mappings of the executable that are what stands in the file, and no other, are let go of', () => {
  const smaps = [
    mapping('00400000-00410000', { rights: 'r--p' }),
    mapping('00410000-00420000'),
    mapping('00420000-00430000', { rights: 'rw-p' }),
    mapping('00430000-00440000', { path: '/usr/lib/libc.so.6' }),
    mapping('00440000-00450000', { lines: { Private_Dirty: 4 } }),
    mapping('00450000-00460000', { lines: { Anonymous: 4 } }),
    // Pages that relocation has changed, and that memory was too short for since.
    mapping('00460000-00470000', { rights: 'r--p', lines: { Swap: 8 } }),
    mapping('00470000-00480000', { lines: { Swap: undefined } }),
    mapping('7f0000000000-7f0000010000', { rights: 'r--p' }),
  ].join('');
  assert.deepEqual(unchangedMappings(smaps, file), [
    { address: 0x400000, bytes: 0x10000 },
    { address: 0x410000, bytes: 0x10000 },
    { address: 0x7f0000000000, bytes: 0x10000 },
  ]);
});
