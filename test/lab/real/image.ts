/** The image that daemonset.yaml names, of this machine's files: Node, what is shipped, and the programs that it starts. */
import { cpSync, existsSync, mkdirSync, readdirSync, realpathSync, symlinkSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { runChecked } from '../../../src/kernel/process.ts';
import { root } from '../files.ts';

const programs = ['ip', 'nft', 'conntrack'];
const applets = ['sh', 'sleep', 'env', 'modprobe', 'cat', 'ls'];
const rules = ['iptables', 'ip6tables'].flatMap((name) =>
  ['', '-nft', '-legacy'].flatMap((kind) =>
    ['', '-save', '-restore'].map((action) => `${name}${kind}${action}`),
  ),
);

const searched = ['/usr/local/bin', '/usr/local/sbin', '/usr/bin', '/usr/sbin'];

function find(name: string): string {
  const path = searched.map((folder) => join(folder, name)).find(existsSync);
  if (path === undefined) throw new Error(`${name} is not installed`);
  return path;
}

/** The libraries that programs and libraries are linked with. */
async function librariesOf(paths: readonly string[]): Promise<string[]> {
  const text = await runChecked('ldd', paths);
  return [...text.matchAll(/(?:=> |^\s+)(\/\S+) \(0x/gm)].map(([, path]) => path!);
}

/** Both /lib and /usr/lib are one folder. */
const placeOf = (path: string): string => path.replace(/^\/(bin|sbin|lib|lib64)\//, '/usr/$1/');

/** Puts the image's root file system into a folder. It is an own one for each call: tests change nothing in it. */
export async function makeImageRoot(folder: string): Promise<void> {
  const { ship } = (await import(join(root, 'tools/ship.mjs'))) as {
    ship: (folder: string, architecture: string) => void;
  };
  for (const name of ['bin', 'sbin', 'lib', 'lib64']) {
    mkdirSync(join(folder, 'usr', name), { recursive: true });
    symlinkSync(`usr/${name}`, join(folder, name));
  }
  for (const name of ['etc', 'proc', 'sys', 'dev', 'run', 'tmp', 'var/lib', 'usr/local/bin', 'opt/twill'])
    mkdirSync(join(folder, name), { recursive: true });
  symlinkSync('../run', join(folder, 'var/run'));
  ship(join(folder, 'opt/twill'), process.arch);
  symlinkSync('/opt/twill/dist/main.js', join(folder, 'usr/local/bin/twill'));
  const files = [...programs, ...rules].map(find);
  const extensions = dirname(realpathSync(await extensionOf(files)));
  const addons = readdirSync(join(folder, 'opt/twill/node_modules'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.node'))
    .map((name) => join(folder, 'opt/twill/node_modules', name));
  const linked = [...files, process.execPath, ...addons];
  const copy = (from: string, to = placeOf(from)): void => {
    mkdirSync(dirname(join(folder, to)), { recursive: true });
    cpSync(realpathSync(from), join(folder, to));
  };
  for (const path of [...files, ...new Set(await librariesOf(linked.map((one) => realpathSync(one))))])
    copy(path);
  copy(find('busybox'));
  for (const applet of applets) symlinkSync('busybox', join(folder, 'usr/bin', applet));
  copy(process.execPath, '/usr/local/bin/node');
  cpSync(extensions, join(folder, placeOf(extensions)), { recursive: true });
}

/** Where iptables has its extensions: beside the library that it is linked with. */
async function extensionOf(files: readonly string[]): Promise<string> {
  const iptables = files.find((path) => basename(path) === 'iptables')!;
  const library = (await librariesOf([iptables])).find((path) => path.includes('libxtables'));
  if (library === undefined) throw new Error('iptables is not linked with libxtables');
  return join(dirname(library), 'xtables/libxt_comment.so');
}
