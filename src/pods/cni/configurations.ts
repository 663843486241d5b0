import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Log } from '../../process/log.ts';

/** A meta plugin that hands pods on to Twill names it as well. */
function namesTwill(path: string): boolean {
  try {
    return readFileSync(path, 'utf8').includes('twill');
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
    names = readdirSync(directory).filter((name) => /\.(conf|conflist|json)$/.test(name));
  } catch {
    return [];
  }
  const sorted = names.sort();
  const own = sorted.findIndex((name) => namesTwill(join(directory, name)));
  return own < 0 ? [] : sorted.slice(0, own);
}

/** What is to be said of {@link earlierConfigurations}, a sentence each. */
export function configurationProblems(directory: string | undefined): string[] {
  if (directory === undefined) return [];
  return earlierConfigurations(directory).map(
    (name) => `the container runtime uses ${join(directory, name)}, which sorts before Twill's: remove it`,
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
