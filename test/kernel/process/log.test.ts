import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { openSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { root } from '../../lab/files.ts';

/** Logs in a format until it is told on standard input to end, and ends with status 7 then. */
const program = (format: string): string => `
  import { makeLog } from '${join(root, 'build/src/process/log.js')}';
  const log = makeLog({ level: 'info', format: '${format}', name: 'test' });
  log.info({ url: 'https://root:s3cr"et@192.0.2.1:2379/v3', more: ['http://u:p@x', 'mail@example.com'] }, 'see http://me:pass@host');
  const timer = setInterval(() => log.info({ text: 'x'.repeat(1000) }, 'again'), 1);
  process.stdin.once('data', () => process.exit(7));
  process.stdout.write('ready');
`;

describe('a log', () => {
  for (const format of ['json', 'pretty'] as const) {
    it(`whose reader has gone is lost, and nothing else: ${format}`, async () => {
      const child = spawn(process.execPath, ['--input-type=module', '-e', program(format)], {
        stdio: ['pipe', 'pipe', 'pipe'],
      });
      const ended = once(child, 'exit');
      await once(child.stdout, 'data');
      child.stderr.destroy();
      // Many lines meet nobody.
      await new Promise((resolve) => setTimeout(resolve, 200));
      assert.equal(child.exitCode, null);
      child.stdin.write('end');
      assert.deepEqual(await ended, [7, null]);
    });

    it(`that does not fit on the disk is lost, and nothing else: ${format}`, async () => {
      const full = openSync('/dev/full', 'w');
      const child = spawn(process.execPath, ['--input-type=module', '-e', program(format)], {
        stdio: ['pipe', 'pipe', full],
      });
      const ended = once(child, 'exit');
      await once(child.stdout!, 'data');
      child.stdin!.write('end');
      assert.deepEqual(await ended, [7, null]);
    });

    it(`tells no user name and no password of a URL: ${format}`, async () => {
      const child = spawn(process.execPath, ['--input-type=module', '-e', program(format)], {
        stdio: ['pipe', 'pipe', 'pipe'],
      });
      let text = '';
      child.stderr.on('data', (data) => {
        text += String(data);
      });
      const closed = once(child, 'close');
      await once(child.stdout, 'data');
      child.stdin.write('end');
      await closed;
      const [first = ''] = text.split('\n');
      assert.doesNotMatch(first, /root:|me:|u:p|pass@/);
      assert.match(first, /http:\/\/\*\*\*@host/);
      assert.match(first, /mail@example\.com/);
    });
  }
});
