// npm run image: builds the Dockerfile without an engine and without a registry, by Debian's buildah. NODE_IMAGE is made of
// Debian's base system, the Node of tools/image-node (26, which the real base has, too) and this machine's npm with its
// settings and certificates. The image's root file system is left in .image/root. With --check the nodes of the lab then
// run what daemonset.yaml says from it, and tests run under its Node.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { ensurePackages } from './debian.mjs';

const root = dirname(import.meta.dirname);
const place = join(root, '.image');
const baseRoot = join(place, 'base');
const imageRoot = join(place, 'root');
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const limitMB = 150;

function fail(message) {
  process.stderr.write(`${message}\n`);
  process.exit(1);
}

/** @returns standard output */
function run(program, args, options = {}) {
  const { status, stdout, error } = spawnSync(program, args, {
    stdio: ['ignore', 'pipe', 'inherit'],
    encoding: 'utf8',
    maxBuffer: 64 << 20,
    ...options,
  });
  if (error !== undefined) fail(`cannot run ${program}: ${error.message}`);
  if (status !== 0)
    fail(`${[program, ...args].join(' ')} failed${stdout ? `:\n${stdout.slice(-4000)}` : ''}`);
  return (stdout ?? '').trim();
}

const stores = [`--root=${place}/store`, `--runroot=${place}/runroot`, '--storage-driver=overlay'];
const buildah = (...args) => run('buildah', [...stores, ...args]);

/** Certificates that this machine trusts, and npm's settings: without them a build behind a proxy reaches nothing. */
function copySettings() {
  cpSync('/etc/ssl/certs/ca-certificates.crt', join(baseRoot, 'etc/ssl/certs/ca-certificates.crt'));
  for (const [file, target] of [
    [join(homedir(), '.npmrc'), 'root/.npmrc'],
    ['/etc/npmrc', 'etc/npmrc'],
  ])
    if (existsSync(file)) cpSync(file, join(baseRoot, target));
  const settings = Object.entries(process.env).filter(([name]) => /^npm_config_registry$/i.test(name));
  if (settings.length > 0)
    writeFileSync(join(baseRoot, 'usr/local/etc/npmrc'), `registry=${settings[0][1]}\n`);
}

/** Debian's base system with Node and npm, as the official image has them. */
function makeBase(key) {
  rmSync(baseRoot, { recursive: true, force: true });
  const suite = /VERSION_CODENAME=(\S+)/.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? 'bookworm';
  const mirror = /^(?:URIs: |deb (?:\[[^\]]*\] )?)(\S+debian\/?)(?: |$)/m.exec(readSources())?.[1];
  process.stderr.write(`making a base of Debian ${suite}…\n`);
  const packages = '--include=ca-certificates,libatomic1,libstdc++6';
  const target = [suite, baseRoot, mirror ?? 'http://deb.debian.org/debian'];
  run('mmdebstrap', ['--mode=root', '--variant=minbase', '--quiet', packages, ...target]);
  for (const folder of ['var/lib/apt/lists', 'var/cache/apt', 'usr/share/doc', 'usr/share/man'])
    for (const entry of readdirSync(join(baseRoot, folder)))
      rmSync(join(baseRoot, folder, entry), { recursive: true });
  run('npm', ['ci', '--no-audit', '--no-fund', '--ignore-scripts', '--loglevel=error'], {
    cwd: join(root, 'tools/image-node'),
  });
  const node = join(root, `tools/image-node/node_modules/node-linux-${process.arch}/bin/node`);
  cpSync(node, join(baseRoot, 'usr/local/bin/node'));
  const npm = dirname(dirname(realpathSync(run('sh', ['-c', 'command -v npm']))));
  cpSync(npm, join(baseRoot, 'usr/local/lib/node_modules/npm'), { recursive: true });
  run('ln', ['-sf', '../lib/node_modules/npm/bin/npm-cli.js', join(baseRoot, 'usr/local/bin/npm')]);
  copySettings();
  writeFileSync(join(place, 'base.key'), key);
}

function readSources() {
  const folder = '/etc/apt/sources.list.d';
  const files = existsSync(folder) ? readdirSync(folder).map((name) => join(folder, name)) : [];
  return ['/etc/apt/sources.list', ...files]
    .filter(existsSync)
    .map((file) => readFileSync(file, 'utf8'))
    .join('\n');
}

const certificates = 'NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt';

function buildImage() {
  const container = buildah('from', 'scratch');
  buildah('copy', '--quiet', container, baseRoot, '/');
  buildah(
    'config',
    `--env=${certificates}`,
    '--env=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    container,
  );
  buildah('commit', '--quiet', '--rm', container, 'localhost/twill-node-base');
  const revision = spawnSync('git', ['rev-parse', 'HEAD'], { cwd: root, encoding: 'utf8' }).stdout?.trim();
  run(
    'buildah',
    [
      ...stores,
      'bud',
      '--isolation=chroot',
      '--layers=false',
      '--quiet',
      '--build-arg=NODE_IMAGE=localhost/twill-node-base',
      `--build-arg=VERSION=${version}`,
      `--build-arg=REVISION=${revision || 'unknown'}`,
      `--tag=localhost/twill:${version}`,
      root,
    ],
    { stdio: ['ignore', 'inherit', 'inherit'] },
  );
  const made = buildah('from', `localhost/twill:${version}`);
  const mounted = buildah('mount', made);
  rmSync(imageRoot, { recursive: true, force: true });
  run('cp', ['-a', mounted, imageRoot]);
  buildah('umount', made);
  buildah('rm', made);
}

/** Bytes of the files of a tree, each link once. */
function sizeOf(folder) {
  let bytes = 0;
  const seen = new Set();
  for (const entry of readdirSync(folder, { withFileTypes: true, recursive: true })) {
    if (!entry.isFile()) continue;
    const { size, ino, nlink } = lstatSync(join(entry.parentPath, entry.name));
    if (nlink > 1 && seen.has(ino)) continue;
    seen.add(ino);
    bytes += size;
  }
  return bytes;
}

function tellSize() {
  const [base, image] = [baseRoot, imageRoot].map((folder) => sizeOf(folder) / 1e6);
  const above = image - base;
  const row = (name, value) => `${name.padEnd(28)}${value.toFixed(1).padStart(8)} MB\n`;
  process.stdout.write(
    row('base (Debian, Node, npm)', base) + row('image', image) + row('above the base', above),
  );
  if (above > limitMB) fail(`the image is more than ${limitMB} MB above its base`);
}

const problem = ensurePackages(() => false, 'image');
if (problem !== undefined) fail(problem);
mkdirSync(place, { recursive: true });
const key = createHash('sha256')
  .update(readFileSync(join(root, 'tools/image-node/package-lock.json')))
  .update(readFileSync(import.meta.filename))
  .digest('hex');
if (!existsSync(join(place, 'base.key')) || readFileSync(join(place, 'base.key'), 'utf8') !== key)
  makeBase(key);
buildImage();
tellSize();

/** Tests that say most about another Node: the program's own, netlink and namespaces, credentials, and a whole cluster. */
const underItsNode = [
  'unit',
  'golden',
  'kernel/kernel',
  'kernel/kubernetes',
  'kernel/pods/conformance',
  'e2e/cluster',
];

function check() {
  const test = (environment, ...filters) => {
    const env = { ...process.env, ...environment };
    const { status } = spawnSync(
      environment.PATH === undefined ? process.execPath : 'node',
      [join(root, 'tools/bootstrap.mjs'), 'test', ...filters],
      { stdio: 'inherit', env, cwd: root },
    );
    if (status !== 0) fail(`the tests of ${filters.join(', ')} failed`);
  };
  process.stderr.write('daemonset.yaml with the image…\n');
  test({ TWILL_IMAGE_ROOT: imageRoot }, 'e2e/deploy/daemonset', 'e2e/deploy/capabilities');
  process.stderr.write('tests under the Node of the image…\n');
  test({ PATH: `${imageRoot}/usr/local/bin:${process.env.PATH}` }, ...underItsNode);
}

if (process.argv.includes('--check')) check();
