import assert from 'node:assert/strict';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, describe, it, mock } from 'node:test';
import { pino } from 'pino';
import { run } from '../../../src/kernel/process.ts';
import { keepState } from '../../../src/process/state-keeper.ts';

const log = pino({ level: 'silent' });

describe('what a process works by, as it writes it down', () => {
  let directory = '';
  before(() => {
    directory = mkdtempSync(join(tmpdir(), 'twill-state-'));
  });
  after(() => rmSync(directory, { recursive: true, force: true }));
  afterEach(() => mock.timers.reset());

  const keep = (file: string): (() => void) =>
    keepState({ file, log, print: () => 'the same', pieces: () => [Buffer.from('state')] });

  it('is tried again where it could not be written, though nothing has changed since', () => {
    mock.timers.enable({ apis: ['setInterval'] });
    let now = 0;
    mock.method(performance, 'now', () => now);
    const seconds = (count: number): void => {
      now += count * 1000;
      mock.timers.tick(count * 1000);
    };
    const place = join(directory, 'place');
    writeFileSync(place, 'no directory');
    const file = join(place, 'agent-state.json');
    const end = keep(file);
    seconds(1);
    rmSync(place);
    seconds(11);
    assert.equal(existsSync(file) && readFileSync(file, 'utf8'), 'state');
    end();
    mock.restoreAll();
  });

  it('waits for the first state, but not for long', () => {
    mock.timers.enable({ apis: ['setInterval'] });
    let now = 0;
    mock.method(performance, 'now', () => now);
    const seconds = (count: number): void => {
      for (let second = 0; second < count; second++) {
        now += 1000;
        mock.timers.tick(1000);
      }
    };
    const written: string[] = [];
    const begin = (name: string, isStarting: () => boolean): (() => void) => {
      const pieces = (): Uint8Array[] => {
        written.push(name);
        return [Buffer.from(name)];
      };
      return keepState({ file: join(directory, name), log, print: () => name, isStarting, pieces });
    };
    let isStarting = true;
    const ends = [begin('soon', () => isStarting), begin('never', () => true)];
    seconds(2);
    assert.deepEqual(written, []);
    isStarting = false;
    seconds(1);
    assert.deepEqual(written, ['soon']);
    seconds(2);
    assert.deepEqual(written, ['soon', 'never']);
    for (const end of ends) end();
    mock.restoreAll();
  });

  it('takes the place of a link or a named pipe of that name, and follows neither', async () => {
    const place = join(directory, 'others');
    mkdirSync(place);
    const target = join(directory, 'target');
    writeFileSync(target, "somebody else's");
    symlinkSync(target, join(place, 'link.json'));
    assert.equal((await run('mkfifo', [join(place, 'pipe.json')])).status, 0);
    for (const name of ['link.json', 'pipe.json']) {
      keep(join(place, name))();
      assert.equal(readFileSync(join(place, name), 'utf8'), 'state');
    }
    assert.equal(readFileSync(target, 'utf8'), "somebody else's");
  });
});
