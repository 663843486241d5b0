// What is shipped for an architecture that this machine is not, in an emulated machine of that one.
import { cpSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { root } from '../../lab/files.ts';
import { runInMachine } from '../../lab/machine.ts';

const { TWILL_OTHER_ROOT: files } = process.env;
const architecture = process.arch === 'arm64' ? 'x64' : 'arm64';
const folder = '/opt/twill';

/** The guest's program goes beside what is shipped. */
function addGuest(shipped: string): void {
  for (const name of ['files.js', 'guest'])
    cpSync(join(root, 'build/test/lab', name), join(shipped, 'build/test/lab', name), { recursive: true });
  writeFileSync(join(shipped, 'build/package.json'), JSON.stringify({ type: 'module' }));
  cpSync(join(root, 'tools'), join(shipped, 'tools'), {
    recursive: true,
    filter: (path) => !path.includes('node_modules'),
  });
}

if (files === undefined)
  process.stdout.write(
    'NOT RUN: what is shipped for another architecture; npm run image -- --check-all does it\n',
  );
else
  test(`${architecture}: pods, host ports, bandwidth and Services over IPv4, with code that V8 keeps`, async (context) => {
    addGuest(join(files, folder));
    // As the last stage of the Dockerfile does.
    const keeps = 'node tools/kept-code.mjs dist && ls dist/*.code && dist/main.js --version';
    const said = await runInMachine(`${keeps} && node build/test/lab/guest/plain.js ${architecture}`, {
      system: { architecture, files, kernelFolder: '/', folder },
    });
    context.diagnostic(said);
  });
