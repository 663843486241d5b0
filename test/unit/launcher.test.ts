import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, it } from 'node:test';
import { twillProgram } from '../lab/files.ts';

/** Runs the program in `folder` and says whether V8 took the code that was kept for it. */
function kept(folder: string, args: readonly string[]): { taken: boolean | undefined; stderr: string } {
  const program = join(folder, 'main.js');
  const script = `
    process.argv = ${JSON.stringify([process.execPath, program, ...args])};
    const { cachedDataRejected } = require(${JSON.stringify(program)});
    process.stdout.write(JSON.stringify({ rejected: cachedDataRejected }));`;
  const { stdout, stderr } = spawnSync(process.execPath, ['-e', script], { encoding: 'utf8' });
  const { rejected } = JSON.parse(stdout) as { rejected?: boolean };
  return { taken: rejected === undefined ? undefined : !rejected, stderr };
}

/** Each with words of what it is there for, which it loads after its flags. */
const commands = [
  {
    command: ['agent', '--healthz-port=none'],
    complaint: /--healthz-port is 'none'/,
    words: 'leases changed',
  },
  {
    command: ['proxy', '--proxy-mode=none'],
    complaint: /--proxy-mode is 'none'/,
    words: 'kubernetes service portals',
  },
  {
    command: ['trace', 'nobody', 'nowhere:none', '--socket=/nobody/agent', '--proxy-socket=/nobody/proxy'],
    complaint: /'nobody' is no pod/,
    words: 'is no pod, Service or address',
  },
];

describe('the program', () => {
  for (const { command, complaint, words } of commands) {
    it(`${command[0]} starts from the code that the build kept`, () => {
      const { taken, stderr } = kept(dirname(twillProgram), command);
      assert.equal(taken, true);
      assert.match(stderr, complaint);
    });

    it(`${command[0]} has kept code of what it loads after its flags`, () => {
      const name = command[0] === 'trace' ? 'twill' : command[0];
      const code = readFileSync(join(dirname(twillProgram), `${name}.code`), 'latin1');
      assert.ok(code.includes(words), `'${words}' is not in ${name}.code`);
    });

    it(`${command[0]} starts with code of another Node, and with none`, () => {
      const folder = mkdtempSync(join(tmpdir(), 'twill-launcher-'));
      try {
        const dist = join(folder, 'dist');
        cpSync(dirname(twillProgram), dist, { recursive: true });
        symlinkSync(join(dirname(twillProgram), '../node_modules'), join(folder, 'node_modules'));
        for (const name of ['agent', 'proxy', 'twill']) writeFileSync(join(dist, `${name}.code`), 'another');
        const other = kept(dist, command);
        assert.equal(other.taken, false);
        assert.match(other.stderr, complaint);
        for (const name of ['agent', 'proxy', 'twill']) rmSync(join(dist, `${name}.code`));
        const none = kept(dist, command);
        assert.equal(none.taken, undefined);
        assert.match(none.stderr, complaint);
      } finally {
        rmSync(folder, { recursive: true });
      }
    });
  }
});
