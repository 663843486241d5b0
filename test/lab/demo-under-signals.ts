// Run by the test of that name in namespaces of its own (network, mounts, processes): starts the demo again and
// again, ends it at several moments, and compares the machine before and after.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { run } from '../../src/kernel/process.ts';
import { waitFor } from './wait.ts';

interface Moment {
  /** Undefined: the demo runs to its end. */
  readonly signal: 'SIGINT' | 'SIGTERM' | 'SIGKILL' | undefined;
  /** The progress line that has been printed when the signal comes. */
  readonly after: string;
}

const moments: readonly Moment[] = [
  { signal: 'SIGKILL', after: 'building three nodes' },
  { signal: 'SIGINT', after: 'building three nodes' },
  { signal: 'SIGKILL', after: 'starting agent and proxy' },
  { signal: 'SIGINT', after: 'wiring two pods' },
  { signal: 'SIGTERM', after: 'publishing' },
  { signal: 'SIGKILL', after: 'checking: pod to pod across nodes' },
  { signal: 'SIGINT', after: 'checking: agent killed' },
  { signal: undefined, after: 'done' },
];

async function output(program: string, args: readonly string[]): Promise<string> {
  const { stdout } = await run(program, args);
  return stdout.replace(/^#.*\n/gm, '').replace(/\[\d+:\d+\]/g, '');
}

function processes(): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
      } catch {
        return '';
      }
    })
    .filter((line) => line !== '')
    .sort();
}

/** Everything that a demo could leave behind. */
async function snapshot(): Promise<object> {
  const files = (folder: string): string[] =>
    readdirSync(folder, { recursive: true, encoding: 'utf8' }).sort();
  return {
    namespaces: await output('ip', ['netns']),
    links: await output('ip', ['-oneline', 'link']),
    rules4: await output('iptables-save', []),
    rules6: await output('ip6tables-save', []),
    ruleset: await output('nft', ['list', 'ruleset']),
    processes: processes(),
    run: files('/run'),
    tmp: files('/tmp'),
  };
}

/** @returns the exit status, null when a signal ended it */
async function runDemo({ signal, after }: Moment): Promise<number | null> {
  const demo = spawn(process.execPath, [join(import.meta.dirname, 'demo.js')], {
    detached: true,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const exited = once(demo, 'exit');
  let text = '';
  let sent = false;
  demo.stderr.on('data', (chunk: Buffer) => {
    text += chunk.toString();
    if (sent || !text.includes(after)) return;
    sent = true;
    // As a terminal does: to the whole process group.
    if (signal !== undefined) process.kill(-demo.pid!, signal);
  });
  const [status] = (await exited) as [number | null];
  assert.ok(sent, `the demo ended before '${after}':\n${text}`);
  if (signal === undefined) assert.equal(status, 0, text);
  return status;
}

await snapshot(); // the first look makes the iptables tools create their tables
const before = await snapshot();
for (const moment of moments) {
  const name = `${moment.signal ?? 'the ordinary end'} after '${moment.after}'`;
  await runDemo(moment);
  // Killed, the demo's guard is still at work (or only just starting) when the demo has gone.
  if (moment.signal === 'SIGKILL')
    await waitFor(`everything to be gone, ${name}`, async () =>
      isDeepStrictEqual(await snapshot(), before),
    ).catch(
      () => {}, // the comparison below shows what stayed
    );
  assert.deepEqual(await snapshot(), before, name);
  process.stdout.write(`${name}: as before\n`);
}

const demoScript = join(import.meta.dirname, 'demo.js');
const json = '/run/checks.json';
const kept = await run(process.execPath, [demoScript, '--keep', '--json', json], { timeoutMs: 120_000 });
assert.equal(kept.status, 0, kept.stderr);
const outcomes = JSON.parse(readFileSync(json, 'utf8')) as Record<string, unknown>[];
rmSync(json);
assert.deepEqual(Object.keys(outcomes[0]!), ['name', 'ok', 'detail']);
assert.ok(outcomes.length >= 10 && outcomes.every(({ ok }) => ok === true));
// What the demo says about looking around is true of what stands.
const said = [...kept.stdout.matchAll(/^ {2}ip netns exec (\S+) (.*?) {2,}/gm)];
assert.ok(said.length >= 3, kept.stdout);
for (const [, namespace, command] of said) {
  const { status, stdout, stderr } = await run('ip', ['netns', 'exec', namespace!, ...command!.split(' ')]);
  assert.ok(status === 0 && stdout.length > 0, `${command}: ${stderr}`);
}
const removed = await run(process.execPath, [demoScript, '--remove']);
assert.equal(removed.status, 0, removed.stderr);
assert.deepEqual(await snapshot(), before, 'after --keep and --remove');
process.stdout.write('--keep, --json and --remove: as before\n');
