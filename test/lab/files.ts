import { join } from 'node:path';

/** The repository; compiled, this file is build/test/lab/files.js. */
export const root = join(import.meta.dirname, '../../..');
export const twillProgram = join(root, 'dist/main.js');
export const cniFolder = join(root, 'dist/cni');
export const cniProgram = join(cniFolder, 'twill');
