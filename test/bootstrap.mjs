// What every npm script runs: needs nothing but Node, npm and (for what touches the kernel) root. Installs what is
// missing, builds, and hands over to the command.
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

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

const programs = [
  { package: 'iproute2', program: 'ip' },
  { package: 'iptables', program: 'iptables-nft' },
  { package: 'nftables', program: 'nft' },
  { package: 'conntrack', program: 'conntrack' },
  { package: 'etcd-server', program: 'etcd' },
];

function installed({ program }) {
  const path = `${process.env.PATH}:/usr/sbin:/sbin`;
  return path.split(':').some((folder) => existsSync(join(folder, program)));
}

function installDebianPackages() {
  const missing = programs.filter((entry) => !installed(entry));
  if (missing.length === 0) return;
  const names = missing.map((entry) => entry.package).join(' ');
  if (process.getuid() !== 0) fail(`missing programs; as root: apt-get install ${names}`);
  if (!existsSync('/usr/bin/apt-get'))
    fail(`missing programs; install these Debian packages' equivalents: ${names}`);
  process.stderr.write(`installing Debian packages: ${names}…\n`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const apt = (...args) => spawnSync('apt-get', ['-q', ...args], { env, encoding: 'utf8' });
  apt('update');
  const result = apt('install', '-y', '--no-install-recommends', ...names.split(' '));
  if (result.status !== 0) fail(`could not install ${names}:\n${result.stdout}${result.stderr}`);
}

function build() {
  execFileSync(process.execPath, ['test/build.mjs'], { stdio: 'inherit' });
}

/** Runs a child in the foreground with this process's status and signals. */
function hand(program, args) {
  const child = spawn(program, args, { stdio: 'inherit' });
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child.kill(signal));
  child.on('exit', (code, signal) => process.exit(signal === null ? code : 1));
}

const node = process.execPath;
const [command, ...args] = process.argv.slice(2);
installPackages();
if (command === 'build') {
  build();
} else {
  installDebianPackages();
  build();
  if (command === 'test') hand(node, ['--enable-source-maps', 'build/test/run.js', ...args]);
  else if (command === 'demo') hand(node, ['--enable-source-maps', 'build/test/lab/demo.js', ...args]);
  else if (command === 'bench') hand(node, ['--enable-source-maps', 'build/test/bench/run.js', ...args]);
  else if (command === 'check') {
    execFileSync('node_modules/.bin/biome', ['check', '--error-on-warnings', '.'], { stdio: 'inherit' });
    hand(node, ['--enable-source-maps', 'build/test/run.js', ...args]);
  } else fail(`unknown command '${command}'`);
}
