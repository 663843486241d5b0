import { type FSWatcher, watch } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { describeError, TwillError } from '../model/error.ts';
import { forGoToRead } from '../process/go-yaml.ts';
import { type Log, LogLimiter } from '../process/log.ts';
import { readRegularFile } from '../process/regular-file.ts';
import { asConfiguration, type ConfigurationFile, decodeFile, type ProxySettings } from './settings.ts';

/** Editors write a file in several steps: it is read when it has been quiet for this long. */
const SETTLE_MS = 50;
/** For file systems that report no changes, and files behind links to other directories. */
const LOOK_MS = 5000;

/** Writes the settings that count as kube-proxy's `--write-config-to` does. @throws TwillError `unavailable` */
export async function writeConfiguration(path: string, settings: ProxySettings): Promise<void> {
  const { stringify } = await import('yaml');
  try {
    await writeFile(path, stringify(asConfiguration(settings), forGoToRead));
  } catch (cause) {
    throw new TwillError('unavailable', `--write-config-to ${path} cannot be written`, cause);
  }
}

export interface ConfigurationWatch {
  /** Resolves when the file says something else that can be read. */
  readonly changed: Promise<void>;
  close(): void;
}

/**
 * Watches the file of `--config`. The directory is watched, since a ConfigMap's files change by exchanging a link beside
 * them. A file that is gone for the moment, or cannot be used, changes nothing: the next start would fail with it.
 * @param usable throws where the proxy would not start with the file
 */
export function watchConfiguration(
  file: ConfigurationFile,
  usable: (file: ConfigurationFile) => void,
  log: Log,
): ConfigurationWatch {
  const limiter = new LogLimiter();
  let change = (): void => {};
  const changed = new Promise<void>((resolve) => {
    change = resolve;
  });
  const look = async (): Promise<void> => {
    try {
      const text = readRegularFile(file.path);
      if (text === file.text) return;
      usable(await decodeFile(file.path, text));
      log.warn(
        { file: file.path },
        'the configuration has changed: the proxy ends, to be started again with it',
      );
      change();
    } catch (error) {
      const reason = describeError(error);
      if (limiter.allow(reason) !== undefined)
        log.error({ error: reason }, 'the configuration has changed and cannot be used: the old one counts');
    }
  };
  let settling: NodeJS.Timeout | undefined;
  const soon = (): void => {
    clearTimeout(settling);
    settling = setTimeout(() => void look(), SETTLE_MS);
  };
  let watcher: FSWatcher | undefined;
  try {
    watcher = watch(dirname(file.path), soon);
    watcher.on('error', () => {}); // the regular look still sees changes
  } catch (error) {
    log.debug({ error: describeError(error) }, 'the configuration is looked at now and then only');
  }
  const regular = setInterval(soon, LOOK_MS);
  return {
    changed,
    close: () => {
      watcher?.close();
      clearTimeout(settling);
      clearInterval(regular);
    },
  };
}
