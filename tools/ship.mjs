// Puts what runs on a node, and nothing else, into a folder: node tools/ship.mjs FOLDER. The program is three files with
// everything in it but the native addons; of those, these are the files that are loaded.
import { cpSync, mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';

const root = dirname(import.meta.dirname);

/** By package. The addons have their binary for this machine's architecture and glibc, as the image's Debian has it. */
const addons = {
  koffi: ['package.json', 'LICENSE.txt', 'index.cjs', 'src/koffi/index.cjs', 'src/koffi/src/static.cjs'],
  [`@koromix/koffi-linux-${process.arch}`]: ['package.json', 'index.js', `linux_${process.arch}/koffi.node`],
  netlink: ['package.json', 'LICENSE', 'dist/raw.js', `prebuilds/linux-${process.arch}/node.napi.node`],
  'node-gyp-build': ['package.json', 'LICENSE', 'index.js', 'node-gyp-build.js'],
};

/** Paths below the repository and below the folder alike. */
export const addonFiles = Object.entries(addons).flatMap(([name, files]) =>
  files.map((file) => join('node_modules', name, file)),
);
export const shipped = ['LICENSE', 'dist', ...addonFiles];

/** @throws Error naming what is missing: the build comes first */
export function ship(folder) {
  for (const path of shipped) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    cpSync(join(root, path), join(folder, path), { recursive: true });
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const [, , folder] = process.argv;
  if (folder === undefined) throw new Error('which folder? node tools/ship.mjs FOLDER');
  ship(folder);
}
