import { existsSync, readdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
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
export function asideConfigurations(directory: string): string[] {
  return readdirSync(directory)
    .filter((name) => name.endsWith(ASIDE))
    .map((name) => join(directory, name.slice(0, -ASIDE.length)));
}

/**
 * The inverse of {@link setAside}. One that somebody has written anew meanwhile stays, and so does what was set aside.
 * @returns the paths that are back, and those that somebody else has
 */
export function putBack(directory: string): { readonly back: string[]; readonly taken: string[] } {
  const paths = asideConfigurations(directory);
  const taken = paths.filter((path) => existsSync(path));
  const back = paths.filter((path) => !taken.includes(path));
  for (const path of back) renameSync(`${path}${ASIDE}`, path);
  return { back, taken };
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
