// What every npm script runs: needs nothing but Node, npm and (for what touches the kernel) root. Installs what is
// missing, builds, and hands over to the command.
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import { dirname } from 'node:path';
import { ensurePackages } from './debian.mjs';

const root = dirname(import.meta.dirname);
process.chdir(root);

function fail(message) {
  process.stderr.write(`${message}\n`);
  process.exit(1);
}

const [major, minor] = process.versions.node.split('.').map(Number);
const { engines } = JSON.parse(readFileSync('package.json', 'utf8'));
if (major < 20 || (major === 20 && minor < 20))
  fail(`Twill needs Node ${engines.node}; this is ${process.version}`);

/** Installs the pinned packages unless the ones of this very lock file are there. */
function installPackages() {
  const marker = 'node_modules/.twill-lock';
  const wanted = createHash('sha256').update(readFileSync('package-lock.json')).digest('hex');
  if (existsSync(marker) && readFileSync(marker, 'utf8') === wanted) return;
  process.stderr.write('installing npm packages…\n');
  // Not `npm ci`: it refuses a lock file without the optional packages of platforms that a registry does not carry.
  const args = ['install', '--no-save', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'];
  const result = spawnSync('npm', args, { stdio: ['ignore', 2, 2] });
  if (result.status !== 0) fail('npm could not install the packages (see above)');
  writeFileSync(marker, wanted);
}

function build() {
  const result = spawnSync(process.execPath, ['tools/build.mjs'], { stdio: 'inherit' });
  if (result.status !== 0) process.exit(1);
}

/** Runs a child in the foreground with this process's status and signals. */
function hand(script, args) {
  const child = spawn(process.execPath, ['--enable-source-maps', script, ...args], { stdio: 'inherit' });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
  child.on('exit', (code, signal) => process.exit(code ?? 128 + constants.signals[signal]));
}

function lint() {
  const result = spawnSync('node_modules/.bin/biome', ['check', '--error-on-warnings', '.'], {
    stdio: 'inherit',
  });
  if (result.status !== 0) process.exit(1);
}

const scripts = {
  test: 'build/test/run.js',
  check: 'build/test/run.js',
  demo: 'build/test/lab/demo.js',
  bench: 'build/test/bench/run.js',
};

/** Only the pure tests: they touch nothing, and so need neither root nor Debian packages. */
function isPure(command, args) {
  return command === 'test' && args.length > 0 && args.every((filter) => /^(unit|golden)(\/|$)/.test(filter));
}

const [command, ...args] = process.argv.slice(2);
if (command !== 'build' && scripts[command] === undefined) fail(`unknown command '${command}'`);
installPackages();
if (command === 'check') lint();
if (command !== 'build' && !isPure(command, args)) {
  const runsTests = command === 'test' || command === 'check';
  const problem = ensurePackages(
    (word) =>
      runsTests &&
      (args.length === 0 || args.some((filter) => word.includes(filter) || filter.includes(word))),
    command,
  );
  if (problem !== undefined) fail(problem);
}
build();
if (command !== 'build') hand(scripts[command], args);
