// Builds dist/cni/twill, the self-contained CNI executable.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { bunPackage, targetRoot } from './target.mjs';

const root = dirname(import.meta.dirname);
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

/** Compiles cni-bin with Bun, which is only a build tool here; left alone while the executable is newer than its sources. */
export function compileCni(output = join(root, 'dist/cni/twill'), architecture = process.arch) {
  const sources = [
    'cni-bin/main.ts',
    'cni-bin/libc.ts',
    'src/pods/plan/protocol.ts',
    'src/process/durable.ts',
    'src/pods/cni/deletions.ts',
    'package.json',
    'tools/cni-executable.mjs',
  ].map((file) => join(root, file));
  if (!existsSync(sources[0])) return;
  const built = existsSync(output) ? statSync(output).mtimeMs : 0;
  if (sources.every((file) => statSync(file).mtimeMs < built)) return;
  const bun = join(root, bunPackage(process.arch), 'bin/bun');
  // Another architecture's program is this one's Bun's work, put behind that one's Bun.
  const behind = join(targetRoot(architecture), bunPackage(architecture), 'bin/bun');
  mkdirSync(dirname(output), { recursive: true });
  execFileSync(
    bun,
    [
      'build',
      '--compile',
      `--compile-executable-path=${behind}`,
      '--minify',
      '--bytecode',
      // Otherwise it would read settings from the folder the runtime happens to be in.
      '--no-compile-autoload-dotenv',
      '--no-compile-autoload-bunfig',
      // It lives for 6 ms: compiling its code to machine code costs one more and gains nothing.
      '--compile-jit-policy=1000000',
      sources[0],
      '--outfile',
      `${output}.new`,
      '--define',
      `TWILL_VERSION=${JSON.stringify(version)}`,
    ],
    { stdio: ['ignore', 'ignore', 'inherit'], cwd: join(root, 'dist') },
  );
  // Written at once, a file lies in the page cache in large pieces: starting it maps them in a tenth less time.
  writeFileSync(`${output}.new`, readFileSync(`${output}.new`));
  renameSync(`${output}.new`, output);
}
