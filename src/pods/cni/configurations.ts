import { existsSync, readdirSync, renameSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import type { Removal } from '../../model/removal.ts';
import { holdsText } from '../../process/durable.ts';
import type { Log } from '../../process/log.ts';
import { readRegularFile } from '../../process/regular-file.ts';

/** A meta plugin that hands pods on to Twill names it as well. */
function namesTwill(path: string): boolean {
  try {
    return readRegularFile(path).includes('twill');
  } catch {
    return false;
  }
}

/**
 * Configurations that a runtime takes instead of ours, for it reads them in the order of their names and uses the first:
 * pods then get their addresses from two networks that do not know of each other.
 * @returns names of files; none where no configuration of ours is
 */
export function earlierConfigurations(directory: string): string[] {
  let names: string[];
  try {
    names = readdirSync(directory, { withFileTypes: true })
      .filter((entry) => !entry.isDirectory() && /\.(conf|conflist|json)$/.test(entry.name))
      .map(({ name }) => name);
  } catch {
    return [];
  }
  const sorted = names.sort();
  const own = sorted.findIndex((name) => namesTwill(join(directory, name)));
  return own < 0 ? [] : sorted.slice(0, own);
}

/** What a configuration is called that was set aside: runtimes read only names that end in conf, conflist and json. */
const ASIDE = '.set-aside-by-twill';

/**
 * Renames configurations that a runtime would take instead of ours. Ours stands by then, so that it always has one.
 * @returns what was renamed: old path and new
 */
export function setAside(directory: string): [path: string, aside: string][] {
  return earlierConfigurations(directory).map((name) => {
    const path = join(directory, name);
    renameSync(path, `${path}${ASIDE}`);
    return [path, `${path}${ASIDE}`];
  });
}

/** The paths that configurations had which were set aside. */
function asideConfigurations(directory: string): string[] {
  return readdirSync(directory)
    .filter((name) => name.endsWith(ASIDE))
    .map((name) => join(directory, name.slice(0, -ASIDE.length)));
}

/** The same text twice is once enough. @returns false where somebody has written it anew */
function putBackOne(path: string): boolean {
  const aside = `${path}${ASIDE}`;
  if (!existsSync(path)) renameSync(aside, path);
  else if (!holdsText(path, readRegularFile(aside))) return false;
  else unlinkSync(aside);
  return true;
}

/** A step for each of {@link asideConfigurations}: what it would do, and does. */
export function puttingBack(directory: string): Removal[] {
  return asideConfigurations(directory).map((path) => {
    const taken = `${path}: left as somebody has written it anew; what was set aside stays as ${path}${ASIDE}`;
    const free = !existsSync(path) || holdsText(path, readRegularFile(`${path}${ASIDE}`));
    const what = free ? `${path}: put back` : taken;
    return { what, apply: () => (putBackOne(path) ? `${path}: put back` : taken) };
  });
}

/**
 * The inverse of {@link setAside}. One that somebody has written anew meanwhile stays, and so does what was set aside.
 * @returns the paths that are back, and those that somebody else has
 */
export function putBack(directory: string): { readonly back: string[]; readonly taken: string[] } {
  const paths = asideConfigurations(directory);
  const back = paths.filter(putBackOne);
  return { back, taken: paths.filter((path) => !back.includes(path)) };
}

/** What is to be said of {@link earlierConfigurations}, a sentence each. */
export function configurationProblems(directory: string | undefined): string[] {
  if (directory === undefined) return [];
  return earlierConfigurations(directory).map(
    (name) =>
      `the container runtime uses ${join(directory, name)}, which sorts before Twill's: remove it, or run twill install-cni --replace`,
  );
}

/** Makes a function that logs those problems that are new since it was called last. */
export function configurationWarner(directory: string | undefined, log: Log): () => void {
  let said: readonly string[] = [];
  return () => {
    const found = configurationProblems(directory);
    for (const problem of found) if (!said.includes(problem)) log.warn(problem);
    said = found;
  };
}
