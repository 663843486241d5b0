import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { killChildren, run } from '../../../src/kernel/process.ts';
import { isTwillError } from '../../../src/model/error.ts';
import { root } from '../../lab/files.ts';
import { waitFor } from '../../lab/wait.ts';

const long = 1000; // seconds; whoever sleeps for so long was forgotten

function alive(pid: number): boolean {
  try {
    // A zombie has ended: its parent has not asked for its status yet.
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

describe('a program that is run', () => {
  let directory: string;
  const pidFile = (): string => join(directory, 'pid');
  const shell = (script: string, options = {}) =>
    run('sh', ['-c', script], { env: { ...process.env, PID_FILE: pidFile() }, ...options });
  async function grandchild(): Promise<number> {
    await waitFor('the grandchild', () => existsSync(pidFile()) && readFileSync(pidFile(), 'utf8') !== '');
    return Number(readFileSync(pidFile(), 'utf8'));
  }

  before(() => {
    directory = mkdtempSync(join(tmpdir(), 'twill-process-'));
  });
  after(() => rmSync(directory, { recursive: true }));

  it('and its own children end with the time-out, which holds though they keep the pipe', async () => {
    rmSync(pidFile(), { force: true });
    const ended = assert.rejects(
      shell(`sleep ${long} & echo $! >"$PID_FILE"; wait`, { timeoutMs: 2000 }),
      (error) => isTwillError(error, 'timeout') && /did not finish within 2000 ms/.test(error.message),
    );
    const pid = await grandchild();
    await ended;
    await waitFor('its end', () => !alive(pid));
  });

  it('is not waited for when a child that left its group keeps the pipe', async () => {
    rmSync(pidFile(), { force: true });
    const script = `setsid sh -c 'echo $$ >"$PID_FILE"; exec sleep ${long}' & wait`;
    const ended = assert.rejects(shell(script, { timeoutMs: 2000 }), (error) =>
      isTwillError(error, 'timeout'),
    );
    const pid = await grandchild();
    try {
      await ended;
    } finally {
      process.kill(pid, 'SIGKILL');
    }
  });

  it('has its status and its output when only a child of it keeps the pipe', async () => {
    rmSync(pidFile(), { force: true });
    const result = await shell(`sleep ${long} & echo $! >"$PID_FILE"; echo out; echo err >&2; exit 3`);
    assert.deepEqual(result, { status: 3, stdout: 'out\n', stderr: 'err\n' });
    const pid = await grandchild();
    assert.ok(alive(pid), 'what it left on purpose goes on');
    process.kill(pid, 'SIGKILL');
  });

  it('is read to its end however long we did not look', async () => {
    const size = 5_000_000;
    const result = run('sh', ['-c', `head -c ${size} /dev/zero | tr '\\0' x`]);
    for (let turn = 0; turn < 20; turn++) {
      const until = performance.now() + 150;
      while (performance.now() < until);
      await new Promise((resolve) => setImmediate(resolve));
    }
    assert.equal((await result).stdout.length, size);
  });

  it('ends when all are killed, and when its signal is aborted', async () => {
    const killed = assert.rejects(shell(`sleep ${long}`), /was stopped/);
    killChildren('was stopped');
    await killed;
    const abort = new AbortController();
    const cancelled = assert.rejects(shell(`sleep ${long}`, { signal: abort.signal }), /was cancelled/);
    abort.abort();
    await cancelled;
    await assert.rejects(shell('true', { signal: abort.signal }), /was cancelled/);
  });

  it('is refused with a reason when descriptors are short, and can be run when they are back', () => {
    const script = `
      import { closeSync, openSync } from 'node:fs';
      import { run } from '${join(root, 'build/src/kernel/process.js')}';
      const held = [];
      try { for (;;) held.push(openSync('/dev/null', 'r')); } catch {}
      const errors = [];
      for (let round = 0; round < 8; round++) {
        await run('true', []).catch((error) => errors.push(error.code));
        closeSync(held.pop());
      }
      for (const fd of held) closeSync(fd);
      console.log(JSON.stringify({ errors, after: (await run('true', [])).status }));
    `;
    const { stdout, stderr } = spawnSync(
      'prlimit',
      ['--nofile=64:64', process.execPath, '--input-type=module', '-e', script],
      { encoding: 'utf8' },
    );
    const { errors, after: status } = JSON.parse(stdout || `{"errors":[],"after":${JSON.stringify(stderr)}}`);
    assert.equal(status, 0);
    assert.ok(errors.length > 0);
    assert.deepEqual([...new Set(errors)], ['unavailable']);
  });
});
