// Which architecture is built for, and where the packages with its binaries are. Only the last stage of the Dockerfile runs on
// the image's own: all that comes before is made on the building machine's.
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';

const root = dirname(import.meta.dirname);

/** @param name as Node or as an image has it (x64 or amd64); none is this machine's. @throws Error for one that nothing is made for */
export function targetArchitecture(name) {
  const architecture = name === 'amd64' ? 'x64' : name || process.arch;
  if (!['x64', 'arm64'].includes(architecture)) throw new Error(`nothing is made for architecture '${name}'`);
  return architecture;
}

/** The folder whose node_modules has the binaries of an architecture; another than this machine's is installed beside. */
export function targetRoot(architecture) {
  return architecture === process.arch ? root : installFor(architecture, root, 'packages');
}

/** Installs what a folder's lock file says for another architecture than this machine's. @returns where node_modules is */
export function installFor(architecture, from, name) {
  const folder = join(root, 'node_modules/.cache', `${name}-${architecture}`);
  if (existsSync(join(folder, 'node_modules'))) return folder;
  mkdirSync(folder, { recursive: true });
  for (const file of ['package.json', 'package-lock.json'])
    copyFileSync(join(from, file), join(folder, file));
  const platform = [`--cpu=${architecture}`, '--os=linux', '--libc=glibc', '--omit=dev', '--prefer-offline'];
  const quiet = ['--no-save', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'];
  const options = { cwd: folder, stdio: ['ignore', 2, 2] };
  const { status } = spawnSync('npm', ['install', ...platform, ...quiet], options);
  if (status !== 0) throw new Error(`npm could not install the packages for ${architecture} (see above)`);
  return folder;
}

/** The package whose Bun the CNI executable is made with, and has in it. */
export function bunPackage(architecture) {
  return `node_modules/@oven/bun-linux-${architecture === 'x64' ? 'x64' : 'aarch64'}`;
}
