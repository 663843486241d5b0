// The base that `npm run image` builds on, where there is no registry: Debian's base system, the Node of tools/image-node and
// this machine's npm, as the official image of Node has them.
import { spawn } from 'node:child_process';
import {
  cpSync,
  existsSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';

const root = dirname(import.meta.dirname);
export const nodeFolder = join(root, 'tools/image-node');

function readSources() {
  const folder = '/etc/apt/sources.list.d';
  const files = existsSync(folder) ? readdirSync(folder).map((name) => join(folder, name)) : [];
  return ['/etc/apt/sources.list', ...files]
    .filter(existsSync)
    .map((file) => readFileSync(file, 'utf8'))
    .join('\n');
}

function run(program, args, cwd = root) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { cwd, stdio: ['ignore', 2, 2] });
    child.on('error', reject);
    child.on('exit', (status) =>
      status === 0 ? resolve() : reject(new Error(`${[program, ...args].join(' ')} failed`)),
    );
  });
}

/** @param options of mmdebstrap: what the system consists of */
export function makeDebian(target, options) {
  const suite = /VERSION_CODENAME=(\S+)/.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? 'bookworm';
  const mirror = /^(?:URIs: |deb (?:\[[^\]]*\] )?)(\S+debian\/?)(?: |$)/m.exec(readSources())?.[1];
  const from = mirror ?? 'http://deb.debian.org/debian';
  return run('mmdebstrap', ['--mode=root', '--quiet', ...options, suite, target, from]);
}

const baseSystem = [
  '--variant=minbase',
  '--include=ca-certificates,libatomic1,libstdc++6',
  // A base that is not finished is begun again: nothing has to be on the disk before it is.
  '--dpkgopt=force-unsafe-io',
  ...['doc', 'man', 'locale', 'info'].map((name) => `--dpkgopt=path-exclude=/usr/share/${name}/*`),
  '--dpkgopt=path-include=/usr/share/doc/*/copyright',
];

/** Certificates that this machine trusts, and npm's settings: without them a build behind a proxy reaches nothing. */
function copySettings(target) {
  cpSync('/etc/ssl/certs/ca-certificates.crt', join(target, 'etc/ssl/certs/ca-certificates.crt'));
  for (const [file, name] of [
    [join(homedir(), '.npmrc'), 'root/.npmrc'],
    ['/etc/npmrc', 'etc/npmrc'],
  ])
    if (existsSync(file)) cpSync(file, join(target, name));
  const settings = Object.entries(process.env).filter(([name]) => /^npm_config_registry$/i.test(name));
  if (settings.length > 0) writeFileSync(join(target, 'usr/local/etc/npmrc'), `registry=${settings[0][1]}\n`);
}

/** @returns the executable */
async function installNode() {
  await run(
    'npm',
    ['ci', '--prefer-offline', '--no-audit', '--no-fund', '--ignore-scripts', '--loglevel=error'],
    nodeFolder,
  );
  return join(nodeFolder, `node_modules/node-linux-${process.arch}/bin/node`);
}

/** @param target an empty folder. @throws Error naming the program that failed */
export async function makeBase(target) {
  const [node] = await Promise.all([installNode(), makeDebian(target, baseSystem)]);
  for (const folder of ['var/lib/apt/lists', 'var/cache/apt'])
    for (const entry of readdirSync(join(target, folder)))
      rmSync(join(target, folder, entry), { recursive: true });
  cpSync(node, join(target, 'usr/local/bin/node'));
  const [bin] = process.env.PATH.split(':').filter((folder) => existsSync(join(folder, 'npm')));
  const npm = dirname(dirname(realpathSync(join(bin, 'npm'))));
  cpSync(npm, join(target, 'usr/local/lib/node_modules/npm'), { recursive: true });
  symlinkSync('../lib/node_modules/npm/bin/npm-cli.js', join(target, 'usr/local/bin/npm'));
  copySettings(target);
}
