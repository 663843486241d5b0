// npm run image: builds the Dockerfile without an engine and without a registry, by Debian's buildah. NODE_IMAGE is made of
// Debian's base system, the Node of tools/image-node (26, which the real base has, too) and this machine's npm with its
// settings and certificates (image-base.mjs). With --check the nodes of the lab then run what daemonset.yaml says from the
// image's root file system, and tests run under its Node; with --check-all every test does, which takes as long again as CI,
// and an emulated machine of the other architecture runs what is shipped for it.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { ensurePackages } from './debian.mjs';
import { makeBase } from './image-base.mjs';
import { makeOtherRoot } from './other-root.mjs';

const root = dirname(import.meta.dirname);
const place = join(root, '.image');
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const baseImage = 'localhost/twill-node-base';
const image = `localhost/twill:${version}`;
const limitMB = 150;

/** @returns standard output. @throws Error with what it said when it fails */
function run(program, args, options = {}) {
  const { status, stdout, error } = spawnSync(program, args, {
    stdio: ['ignore', 'pipe', 'inherit'],
    encoding: 'utf8',
    maxBuffer: 64 << 20,
    ...options,
  });
  if (error !== undefined) throw new Error(`cannot run ${program}: ${error.message}`);
  if (status !== 0)
    throw new Error(`${[program, ...args].join(' ')} failed${stdout ? `:\n${stdout.slice(-4000)}` : ''}`);
  return (stdout ?? '').trim();
}

/** Says how long it took: CI has so many minutes. */
async function step(what, work) {
  const began = Date.now();
  const result = await work();
  process.stderr.write(`${what}: ${((Date.now() - began) / 1000).toFixed(1)} s\n`);
  return result;
}

// The kernel mounts no overlay on an overlay that buildah would want: where this is a container, layers are whole copies.
const driver = run('stat', ['--file-system', '--format=%T', root]) === 'overlayfs' ? 'vfs' : 'overlay';
const stores = [`--root=${place}/store`, `--runroot=${place}/runroot`, `--storage-driver=${driver}`];
const buildah = (...args) => run('buildah', [...stores, ...args]);

/** Calls `work` with the root file system of a container of an image. */
async function inside(name, work) {
  const container = buildah('from', '--pull-never', name);
  try {
    return await work(buildah('mount', container), container);
  } finally {
    buildah('rm', container);
  }
}

const certificates = 'NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt';
const path = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** @returns its bytes */
function buildBase() {
  return inside('scratch', async (folder, container) => {
    await makeBase(folder);
    buildah('config', `--env=${certificates}`, `--env=${path}`, container);
    buildah('commit', '--quiet', container, baseImage);
    return sizeOf(folder);
  });
}

/** What the base was made of: it stands while that is the same. @returns its bytes */
async function ensureBase() {
  const hash = createHash('sha256').update(driver);
  for (const file of ['image-base.mjs', 'image-node/package-lock.json'])
    hash.update(readFileSync(join(import.meta.dirname, file)));
  const key = hash.digest('hex');
  const note = join(place, 'base.json');
  const known = existsSync(note) ? JSON.parse(readFileSync(note, 'utf8')) : {};
  if (known.key === key) return known.bytes;
  rmSync(note, { force: true });
  const bytes = await step('base', buildBase);
  writeFileSync(note, JSON.stringify({ key, bytes }));
  return bytes;
}

function buildImage() {
  const revision = spawnSync('git', ['rev-parse', 'HEAD'], { cwd: root, encoding: 'utf8' }).stdout?.trim();
  const npmCache = run('npm', ['config', 'get', 'cache']);
  mkdirSync(npmCache, { recursive: true });
  run(
    'buildah',
    [
      ...stores,
      'bud',
      '--isolation=chroot',
      '--layers=false',
      '--jobs=2',
      '--pull-never',
      '--quiet',
      // The packages that this machine has installed from already.
      `--volume=${npmCache}:/root/.npm`,
      `--build-arg=NODE_IMAGE=${baseImage}`,
      // What engines with several platforms say by themselves.
      `--build-arg=TARGETARCH=${process.arch}`,
      `--build-arg=VERSION=${version}`,
      `--build-arg=REVISION=${revision || 'unknown'}`,
      `--tag=${image}`,
      root,
    ],
    { stdio: ['ignore', 2, 2] },
  );
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

function tellSize(base, image) {
  const above = (image - base) / 1e6;
  const row = (name, value) => `${name.padEnd(28)}${value.toFixed(1).padStart(8)} MB\n`;
  process.stdout.write(
    row('base (Debian, Node, npm)', base / 1e6) + row('image', image / 1e6) + row('above the base', above),
  );
  if (above > limitMB) throw new Error(`the image is more than ${limitMB} MB above its base`);
}

const all = process.argv.includes('--check-all');
/** What another Node could do otherwise, and a whole cluster. --check-all runs every test. */
const underItsNode = all ? [] : ['unit/', 'golden/', 'kernel/', 'e2e/cluster.'];

function test(environment, ...filters) {
  const env = { ...process.env, ...environment };
  const node = environment.PATH === undefined ? process.execPath : 'node';
  const args = [join(root, 'tools/bootstrap.mjs'), 'test', ...filters];
  const { status } = spawnSync(node, args, { stdio: 'inherit', env, cwd: root });
  if (status !== 0) throw new Error(`the tests failed: npm test -- ${filters.join(' ')}`);
}

/** What is shipped for the architecture that this machine is not: its machine code is that one's, and a node of it works. */
async function checkOther() {
  // https://refspecs.linuxfoundation.org/elf/gabi4+/ch4.eheader.html e_machine
  const [architecture, machine] = process.arch === 'x64' ? ['arm64', 183] : ['x64', 62];
  const system = join(place, architecture);
  const folder = join(system, 'opt/twill');
  rmSync(system, { recursive: true, force: true });
  if (all) await makeOtherRoot(system, architecture);
  run(process.execPath, [join(import.meta.dirname, 'ship.mjs'), folder, architecture]);
  const files = readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => readFileSync(join(parentPath, name)))
    .filter((content) => content.subarray(0, 4).toString('latin1') === '\x7fELF');
  // The CNI executable and the two addons.
  if (files.length !== 3 || files.some((content) => content.readUInt16LE(18) !== machine))
    throw new Error(`${folder} has machine code of another architecture than ${architecture}`);
  if (all) test({ TWILL_OTHER_ROOT: system }, 'e2e/hosts/other-architecture');
}

async function check(folder) {
  await step('what is shipped for the other architecture', checkOther);
  await step('daemonset.yaml with the image', () =>
    test({ TWILL_IMAGE_ROOT: folder }, 'e2e/deploy/daemonset', 'e2e/deploy/capabilities'),
  );
  await step('tests under the Node of the image', () =>
    test({ PATH: `${folder}/usr/local/bin:${process.env.PATH}` }, ...underItsNode),
  );
}

async function main() {
  const problem =
    ensurePackages(() => false, 'image') ?? (all && ensurePackages(() => false, 'image --check-all'));
  if (problem) throw new Error(problem);
  mkdirSync(place, { recursive: true });
  // What a build left that was killed.
  buildah('rm', '--all');
  const baseBytes = await ensureBase();
  await step('image', buildImage);
  await inside(image, async (folder) => {
    tellSize(baseBytes, sizeOf(folder));
    if (process.argv.some((argument) => argument.startsWith('--check'))) await check(folder);
  });
  const shown = ['buildah', ...stores, 'push', image].join(' ');
  process.stdout.write(
    `It is in ${place}. To bring it to a registry:\n  ${shown} docker://REGISTRY/NAME:TAG\n`,
  );
}

main().catch((error) => {
  process.stderr.write(`${error.message}\n`);
  process.exit(1);
});
