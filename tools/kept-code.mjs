// Keeps the code that V8 compiles of the program in FOLDER, beside it: node kept-code.mjs FOLDER. It is of one version of Node
// on one architecture, so the image's is made by the image's own Node.
import { execFileSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

/** Commands that go on until they find a flag wrong: everything they load has then been set up. */
const commands = {
  agent: ['agent', '--healthz-port=none'],
  proxy: ['proxy', '--proxy-mode=none'],
  twill: ['trace', 'nobody', 'nowhere:none', '--socket=/nobody/agent', '--proxy-socket=/nobody/proxy'],
};

export function keepCode(folder) {
  for (const [name, command] of Object.entries(commands)) {
    const file = resolve(folder, `${name}.code`);
    rmSync(file, { force: true });
    execFileSync(process.execPath, [join(import.meta.dirname, 'keep-code.cjs'), file, ...command], {
      stdio: ['ignore', 'inherit', 'ignore'],
    });
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) keepCode(process.argv[2]);
