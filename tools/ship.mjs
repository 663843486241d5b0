// Puts what runs on a node, and nothing else, into a folder: node tools/ship.mjs FOLDER [ARCHITECTURE]. The program is three
// files with everything in it but the native addons; of those, these are the files that are loaded.
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { compileCni } from './cni-executable.mjs';
import { sbomFor } from './sbom.mjs';
import { targetArchitecture, targetRoot } from './target.mjs';

const root = dirname(import.meta.dirname);

/** By package. The addons have their binary for an architecture and glibc, as the image's Debian has it. */
const addons = (architecture) => ({
  koffi: ['package.json', 'LICENSE.txt', 'index.cjs', 'src/koffi/index.cjs', 'src/koffi/src/static.cjs'],
  [`@koromix/koffi-linux-${architecture}`]: ['package.json', 'index.js', `linux_${architecture}/koffi.node`],
  netlink: ['package.json', 'LICENSE', 'dist/raw.js', `prebuilds/linux-${architecture}/node.napi.node`],
  'node-gyp-build': ['package.json', 'LICENSE', 'index.js', 'node-gyp-build.js'],
});

/** Paths below the repository and below the folder alike. */
export function addonFiles(architecture) {
  return Object.entries(addons(architecture)).flatMap(([name, files]) =>
    files.map((file) => join('node_modules', name, file)),
  );
}

/**
 * For another architecture all but the code that V8 has compiled, which is this one's: kept-code.mjs makes it over there.
 * @throws Error naming what is missing: the build comes first
 */
export function ship(folder, architecture) {
  const copy = (from, path) => {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    cpSync(join(from, path), join(folder, path), { recursive: true });
  };
  for (const path of ['LICENSE', 'dist']) copy(root, path);
  const packages = targetRoot(architecture);
  for (const path of addonFiles(architecture)) copy(packages, path);
  if (architecture === process.arch) return;
  const dist = join(folder, 'dist');
  for (const name of readdirSync(dist)) if (name.endsWith('.code')) rmSync(join(dist, name));
  rmSync(join(dist, 'cni/twill'));
  compileCni(join(dist, 'cni/twill'), architecture);
  const list = join(dist, 'sbom.cdx.json');
  writeFileSync(list, sbomFor(architecture, readFileSync(list, 'utf8')));
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const [, , folder, architecture] = process.argv;
  if (folder === undefined) throw new Error('which folder? node tools/ship.mjs FOLDER');
  ship(folder, targetArchitecture(architecture));
}
