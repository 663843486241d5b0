// The sentences of the CNI specification 1.1.0 that bind a plugin, each tested through the executable. A test's name
// begins with the section it is about. Here: VERSION, and what the executable needs.
import assert from 'node:assert/strict';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { runChecked } from '../../../../src/kernel/process.ts';
import { conformanceNode } from '../../../lab/cni-conformance.ts';
import { cniExecutable } from '../../../lab/cni-node.ts';

const cni = conformanceNode();

test('2 VERSION: answers with the version it was asked in and all that are supported', async () => {
  for (const cniVersion of ['0.1.0', '0.2.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0']) {
    const outcome = await cni.node.call('VERSION', { config: JSON.stringify({ cniVersion }) });
    assert.equal(outcome.status, 0);
    assert.equal(outcome.json.cniVersion, cniVersion);
    assert.ok(outcome.json.supportedVersions.includes(cniVersion));
  }
});

test('the executable needs neither Node nor this repository: only the C library', async (t) => {
  const root = mkdtempSync(join(tmpdir(), 'twill-chroot-'));
  t.after(() => rmSync(root, { recursive: true }));
  const libraries = Array.from(
    (await runChecked('ldd', [cniExecutable])).matchAll(/(\/\S+) \(/g),
    (m) => m[1]!,
  );
  for (const file of [...libraries, cniExecutable]) {
    const target = join(root, file === cniExecutable ? '/opt/cni/bin/twill' : file);
    mkdirSync(dirname(target), { recursive: true });
    copyFileSync(file, target);
  }
  for (const file of libraries)
    assert.match(file, /\/(ld-linux|lib(c|m|pthread|dl|rt)\b)[^/]*$/, 'part of glibc');
  mkdirSync(join(root, 'proc'));
  const env = { PATH: process.env.PATH, CNI_COMMAND: 'VERSION' };
  const script = 'mount -t proc proc "$0/proc" && exec chroot "$0" /opt/cni/bin/twill';
  const args = ['--mount', 'sh', '-c', script, root];
  const output = await runChecked('unshare', args, { input: '{"cniVersion":"1.1.0"}', env });
  assert.equal(JSON.parse(output).cniVersion, '1.1.0');
});
