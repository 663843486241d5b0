// Builds build/ (plain JavaScript of every source, for the tests), dist/main.js (the program), dist/page (the agent's
// page) and dist/cni/twill (the self-contained CNI executable). With --ship-only, for the image, it leaves out build/ and
// the check of types.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { bundleProgram } from './bundle.mjs';
import { compileCni } from './cni-executable.mjs';
import { buildPage } from './page.mjs';

const root = dirname(import.meta.dirname);

function compileTypes() {
  rmSync(join(root, 'build'), { recursive: true, force: true });
  // What runs in browsers knows another world, and is only checked here.
  for (const project of [root, join(root, 'page')])
    execFileSync(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', project], {
      stdio: 'inherit',
    });
}

/** Units for hosts where systemd starts the programs. */
function copyUnits() {
  const from = join(root, 'tools/systemd');
  const to = join(root, 'dist/systemd');
  rmSync(to, { recursive: true, force: true });
  mkdirSync(to, { recursive: true });
  for (const name of readdirSync(from)) copyFileSync(join(from, name), join(to, name));
}

/** A digest of everything the build reads. */
function digestSources() {
  // V8's kept code is one version's.
  const hash = createHash('sha256').update(process.version);
  const folders = ['src', 'cni-bin', 'page', 'test', 'tools'].filter((folder) =>
    existsSync(join(root, folder)),
  );
  const files = folders.flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name)),
  );
  const settings = ['package.json', 'package-lock.json', 'tsconfig.json'].map((file) => join(root, file));
  for (const file of [...files.sort(), ...settings]) hash.update(`${file}\0`).update(readFileSync(file));
  return hash.digest('hex');
}

// What stands is left alone when nothing changed: another command may be running from it.
const shipOnly = process.argv.includes('--ship-only');
const stamp = join(root, 'build/.sources');
const digest = digestSources();
if (!existsSync(stamp) || readFileSync(stamp, 'utf8') !== digest || !existsSync(join(root, 'dist/main.js'))) {
  if (!shipOnly) compileTypes();
  await bundleProgram(join(root, 'dist'));
  await buildPage(join(root, 'dist'));
  compileCni();
  copyUnits();
  if (!shipOnly) writeFileSync(stamp, digest);
}
