// Builds dist/page: what the agent's page is made of, as browsers get it.
import { copyFileSync, mkdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { build } from 'esbuild';

const root = dirname(import.meta.dirname);

/** @param folder of the program */
export async function buildPage(folder) {
  const from = join(root, 'page');
  const to = join(folder, 'page');
  rmSync(to, { recursive: true, force: true });
  mkdirSync(to, { recursive: true });
  await build({
    entryPoints: { page: join(from, 'main.ts') },
    outdir: to,
    bundle: true,
    absWorkingDir: root,
    platform: 'browser',
    target: 'es2022',
    format: 'iife',
    charset: 'utf8',
    minify: true,
    sourcemap: false,
    logLevel: 'warning',
  });
  await build({
    entryPoints: [join(from, 'page.css')],
    outdir: to,
    target: 'es2022',
    minify: true,
    logLevel: 'warning',
  });
  for (const name of ['index.html', 'icon.svg']) copyFileSync(join(from, name), join(to, name));
}
