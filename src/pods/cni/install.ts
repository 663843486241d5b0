import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  statSync,
  unlinkSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { describeError, TwillError } from '../../model/error.ts';
import { goField } from '../../model/go-json.ts';
import type { Removal } from '../../model/removal.ts';
import { hasMode, holdsText, removeUnfinished, replaceFile, unfinishedFiles } from '../../process/durable.ts';
import { unlinkIfPresent } from '../../process/files.ts';
import { readRegularFile } from '../../process/regular-file.ts';
import { defaultSocket } from '../plan/protocol.ts';
import { earlierConfigurations, putBack, puttingBack, setAside } from './configurations.ts';
import { isObject } from './schema.ts';

export interface InstallFlags {
  readonly cniBinDir: string;
  readonly cniConfDir: string;
  readonly cniConfName: string;
  readonly cniConf?: string;
  readonly cniExecutable?: string;
  /** Leaves the configuration to the agent (`--install-cni-conf`), which writes it when pods can be wired. */
  readonly executableOnly?: boolean;
  readonly cniSocket: string;
  /** Sets configurations aside that a runtime would use instead. */
  readonly replace?: boolean;
  /** Puts those back instead of installing anything. */
  readonly restore?: boolean;
}

/** The configuration for a runtime whose pods all come to Twill. */
export function builtinConflist(socket: string): string {
  const capabilities = { portMappings: true, bandwidth: true, ips: true };
  const plugin = { type: 'twill', ...(socket === defaultSocket ? {} : { socket }), capabilities };
  // Runtimes that know of cniVersions take the newest they speak; the others take cniVersion.
  const cniVersions = ['0.3.1', '0.4.0', '1.0.0', '1.1.0'];
  const conflist = { cniVersion: '1.0.0', cniVersions, name: 'twill', plugins: [plugin] };
  return `${JSON.stringify(conflist, undefined, 2)}\n`;
}

/** The plugin lies beside the program: in dist/cni, seen from dist or build/src/pods/cni. */
function findExecutable(): string {
  const places = ['cni/twill', '../../../../dist/cni/twill'];
  const found = places.map((place) => join(import.meta.dirname, place)).find(existsSync);
  if (found === undefined)
    throw new TwillError(
      'not-found',
      'the CNI plugin is not beside this program: run npm run build, or give --cni-executable',
    );
  return found;
}

/** Read and written in pieces of this size, a file lies in the page cache in large ones: it starts a tenth faster. */
const PIECE = 4 << 20;

const PLUGIN_MODE = 0o755;
const CONFIGURATION_MODE = 0o600;

function* pieces(path: string): Generator<Buffer> {
  const file = openSync(path, 'r');
  const buffer = Buffer.alloc(PIECE);
  try {
    for (let length = readSync(file, buffer); length > 0; length = readSync(file, buffer))
      yield buffer.subarray(0, length);
  } finally {
    closeSync(file);
  }
}

function sameContent(a: string, b: string): boolean {
  if (statSync(a).size !== statSync(b, { throwIfNoEntry: false })?.size) return false;
  const others = pieces(b);
  for (const piece of pieces(a)) {
    const other = others.next();
    if (other.done === true || !piece.equals(other.value)) {
      others.return(undefined);
      return false;
    }
  }
  others.return(undefined);
  return true;
}

/**
 * Puts the plugin in its place so that a runtime that calls it meanwhile runs the old one or the new one.
 * @returns false when it was there already
 */
function installExecutable(source: string, directory: string): boolean {
  const target = join(directory, 'twill');
  if (hasMode(target, PLUGIN_MODE) && sameContent(source, target)) return false;
  mkdirSync(directory, { recursive: true });
  removeUnfinished(directory, target);
  replaceFile(target, pieces(source), { mode: PLUGIN_MODE, durable: true });
  return true;
}

/** What a file is called, and what to change where runtimes cannot read it under that name. */
interface FileName {
  readonly name: string;
  readonly from: string;
}

/** The name is that of the file itself. */
export const ownName = (path: string): FileName => ({ name: basename(path), from: 'its name' });

/** What libcni reads (ConfFiles). */
const readEnding = /\.(conflist|conf|json)$/;

/**
 * What keeps a runtime from using a configuration under this name: libcni reads lists of plugins from files that end in
 * conflist only, and single plugins from the others.
 */
function unusable(config: Readonly<Record<string, unknown>>, { name, from }: FileName): string | undefined {
  if (!readEnding.test(name))
    return `runtimes read no ${name}: have ${from} end in .conflist, .conf or .json`;
  const plugins = goField(config, 'plugins');
  const isList = Array.isArray(plugins) && plugins.length > 0;
  const has = (of: unknown, field: string): boolean => isObject(of) && Boolean(goField(of, field));
  if (!has(config, 'name')) return 'it has no name';
  if (name.endsWith('.conflist') && !isList)
    return `it has no list of plugins, and runtimes read one from ${name}: put it into "plugins", or have ${from} end in .conf`;
  if (!name.endsWith('.conflist') && isList)
    return `it has a list of plugins, which runtimes read from files that end in .conflist only, and not from ${name}`;
  if (!(isList ? plugins : [config]).every((plugin) => has(plugin, 'type')))
    return 'a plugin in it has no type';
  return undefined;
}

/**
 * @param as the file that runtimes will read
 * @throws TwillError `invalid` when it is no configuration, or none under that name
 */
export function readConflist(path: string, as: FileName): string {
  let text: string;
  try {
    text = readRegularFile(path);
  } catch (cause) {
    throw new TwillError('invalid', `the CNI configuration ${path} cannot be read`, cause);
  }
  let config: unknown;
  try {
    config = JSON.parse(text);
  } catch (cause) {
    throw new TwillError('invalid', `${path} is not JSON`, cause);
  }
  if (!isObject(config)) throw new TwillError('invalid', `${path} is not a JSON object`);
  const problem = unusable(config, as);
  if (problem !== undefined) throw new TwillError('invalid', `${path}: ${problem}`);
  return text;
}

/** @throws TwillError `invalid` for a name of which runtimes read nothing, or nothing of this kind */
function assertReadName(name: string, isGiven: boolean): void {
  const endings = isGiven ? /^[^/]+\.(conflist|conf|json)$/ : /^[^/]+\.conflist$/;
  if (endings.test(name)) return;
  const wanted = isGiven
    ? '.conflist, .conf or .json'
    : '.conflist, for the built-in configuration is a list';
  throw new TwillError('invalid', `--cni-conf-name ${name}: a runtime reads files that end in ${wanted}`);
}

/** @returns false when it was there already */
export function installConflist(text: string, directory: string, name: string): boolean {
  const target = join(directory, name);
  if (hasMode(target, CONFIGURATION_MODE) && holdsText(target, text)) return false;
  mkdirSync(directory, { recursive: true });
  removeUnfinished(directory, target);
  replaceFile(target, text, { mode: CONFIGURATION_MODE, durable: true });
  return true;
}

/**
 * `twill install-cni --restore`: what was set aside is back, and then our configuration goes: there is one at any time.
 * The plugin stays, for the pods that it made.
 */
function restoreConfigurations(directory: string, own: string): void {
  const { back, taken } = putBack(directory);
  for (const path of back) process.stdout.write(`${path}: put back\n`);
  for (const path of taken) process.stderr.write(`warning: ${path} was written anew, and stays as it is\n`);
  if (back.length + taken.length === 0) process.stdout.write(`${directory}: nothing was set aside\n`);
  else if (existsSync(join(directory, own))) {
    unlinkSync(join(directory, own));
    process.stdout.write(`${join(directory, own)}: removed\n`);
  }
}

/** A configuration whose plugin is ours: one of another's with Twill somewhere in it is that one's. */
function isOurConfiguration(path: string): boolean {
  try {
    const { type, plugins } = JSON.parse(readRegularFile(path)) as {
      type?: unknown;
      plugins?: readonly { type?: unknown }[];
    };
    return type === 'twill' || plugins?.[0]?.type === 'twill';
  } catch {
    return false;
  }
}

const fileRemoval = (path: string): Removal => ({
  what: `${path}: removed`,
  apply: () => {
    unlinkIfPresent(path);
  },
});

/**
 * The configuration that `install-cni`, or the agent, has written. What was set aside is back before it goes: the runtime
 * has one at any time.
 */
export function findConfiguration(confDir: string): Removal[] {
  if (!existsSync(confDir)) return [];
  const configurations = readdirSync(confDir)
    .filter((name) => /\.(conf|conflist|json)$/.test(name))
    .map((name) => join(confDir, name))
    .filter(isOurConfiguration);
  return [...puttingBack(confDir), ...[...configurations, ...unfinishedFiles(confDir)].map(fileRemoval)];
}

export const installedExecutable = (binDir: string): string => join(binDir, 'twill');

/** The executable that `install-cni` has written, by which it is known that Twill was here. */
export function findInstalledExecutable(binDir: string): Removal[] {
  const executable = installedExecutable(binDir);
  const unfinished = existsSync(binDir) ? unfinishedFiles(binDir, executable) : [];
  return [
    ...unfinished.map(fileRemoval),
    ...(existsSync(executable) ? [{ ...fileRemoval(executable), witness: true }] : []),
  ];
}

/** `twill install-cni`: the plugin first, then the configuration that makes the runtime call it. */
export function installCni(flags: InstallFlags): void {
  const { cniBinDir, cniConfDir, cniConfName } = flags;
  if (flags.restore === true) {
    restoreConfigurations(cniConfDir, cniConfName);
    return;
  }
  const say = (changed: boolean, path: string): boolean =>
    process.stdout.write(`${path}: ${changed ? 'installed' : 'unchanged'}\n`);
  try {
    const { cniConf, cniSocket } = flags;
    if (flags.executableOnly !== true) assertReadName(cniConfName, cniConf !== undefined);
    const conflist =
      cniConf === undefined
        ? builtinConflist(cniSocket)
        : readConflist(cniConf, { name: cniConfName, from: '--cni-conf-name' });
    say(installExecutable(flags.cniExecutable ?? findExecutable(), cniBinDir), join(cniBinDir, 'twill'));
    if (flags.executableOnly === true) return;
    say(installConflist(conflist, cniConfDir, cniConfName), join(cniConfDir, cniConfName));
  } catch (error) {
    if (error instanceof TwillError) throw error;
    throw new TwillError('permission', `cannot install the CNI plugin: ${describeError(error)}`, error);
  }
  if (flags.replace === true)
    for (const [path, aside] of setAside(cniConfDir))
      process.stdout.write(`${path}: set aside as ${aside}\n`);
  const earlier = earlierConfigurations(cniConfDir);
  if (earlier.length > 0) {
    process.stderr.write(
      `warning: the container runtime will use ${earlier[0]} of ${cniConfDir}, which sorts before ${cniConfName}: remove it, or use --replace\n`,
    );
  }
}
