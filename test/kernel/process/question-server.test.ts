import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ask } from '../../../src/inspect/client.ts';
import { serveQuestions } from '../../../src/process/question-server.ts';

describe('questions at a Unix socket', () => {
  let directory = '';
  before(() => {
    directory = mkdtempSync(join(tmpdir(), 'twill-questions-'));
  });
  after(() => rmSync(directory, { recursive: true, force: true }));

  it('an answer may take longer than a question', async () => {
    const path = join(directory, 'slow.sock');
    // Not so short that a busy machine takes as long to bring the question.
    const timeoutMs = 1000;
    const close = await serveQuestions(
      path,
      async () => {
        await sleep(1.5 * timeoutMs);
        return '{"settled":true}';
      },
      timeoutMs,
    );
    assert.equal(await ask('proxy', path, { inspect: 'repair' }), '{"settled":true}\n');
    await close();
  });

  it('one without end is not kept, and the next is answered', async () => {
    const path = join(directory, 'long.sock');
    const close = await serveQuestions(path, async () => '{}');
    assert.equal(statSync(path).mode & 0o777, 0o600);
    const socket = createConnection(path);
    const closed = new Promise((resolve) => socket.once('close', resolve));
    socket.on('error', () => {});
    const more = (): void => {
      if (!socket.destroyed) socket.write('x'.repeat(1024 * 1024), () => setImmediate(more));
    };
    socket.once('connect', more);
    await closed;
    assert.equal(await ask('proxy', path, { inspect: 'state' }), '{}\n');
    await close();
  });
});
