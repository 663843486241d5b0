import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { readBelow } from '../../../src/process/read-below.ts';

describe('a file of another root', () => {
  let root = '';
  before(() => {
    root = mkdtempSync(join(tmpdir(), 'twill-below-'));
    mkdirSync(join(root, 'etc/real'), { recursive: true });
    writeFileSync(join(root, 'etc/real/file'), 'of the root');
    symlinkSync('/etc/real', join(root, 'absolute'));
    symlinkSync('real/file', join(root, 'etc/relative'));
    symlinkSync('../../../../../../../etc/real/../relative', join(root, 'etc/real/out'));
    symlinkSync('/absolute/loop', join(root, 'etc/real/loop'));
    symlinkSync('/etc/passwd', join(root, 'etc/passwd'));
    symlinkSync('/passwd', join(root, 'passwd'));
  });
  after(() => rmSync(root, { recursive: true, force: true }));

  it('is found through links, which stay below that root', () => {
    for (const path of [
      '/etc/real/file',
      '/absolute/file',
      'etc//relative',
      '/absolute/out',
      '/../absolute/./file',
    ])
      assert.equal(readBelow(root, path), 'of the root', path);
  });

  it('that is not there is no other file, and links that lead to themselves end', () => {
    for (const path of ['/etc/shadow', '/absolute/none'])
      assert.throws(() => readBelow(root, path), /ENOENT/);
    for (const path of ['/etc/passwd', '/passwd', '/absolute/loop'])
      assert.throws(() => readBelow(root, path), /has too many links/);
    assert.throws(() => readBelow(root, '/etc/real/file/x'), /ENOTDIR/);
    assert.throws(() => readBelow(root, '/etc/real'), /no regular file/);
  });
});
