import { join } from 'node:path';
import { TwillError } from '../../model/error.ts';
import type { Log } from '../../process/log.ts';
import { ReconcileLoop } from '../../process/loop.ts';
import { setAside } from './configurations.ts';
import { installConflist, ownName, readConflist } from './install.ts';

/** A configuration that somebody has removed is back after so long. */
const RESYNC_MS = 60_000;

export interface PlacedConfigurationOptions {
  /** The configuration to install; the runtime's file has its name. */
  readonly source: string;
  /** Where the runtime looks. */
  readonly directory: string;
  /** Whether pods can be wired now. */
  readonly ready: () => boolean;
  readonly log: Log;
}

/**
 * Gives the container runtime its configuration when pods can be wired, and not before: a kubelet takes a node for ready by
 * it. It stays when the agent goes: pods that come meanwhile are tried again by the runtime.
 */
export class PlacedConfiguration {
  readonly loop: ReconcileLoop;

  constructor({ source, directory, ready, log }: PlacedConfigurationOptions) {
    this.loop = new ReconcileLoop({
      name: 'CNI configuration',
      log,
      resyncMs: RESYNC_MS,
      work: async () => {
        if (!ready()) return;
        const as = ownName(source);
        try {
          if (installConflist(readConflist(source, as), directory, as.name))
            log.info({ path: join(directory, as.name) }, 'the container runtime has its CNI configuration');
          for (const [path, aside] of setAside(directory))
            log.info({ path, aside }, 'set aside another CNI configuration, which sorts first');
        } catch (cause) {
          if (cause instanceof TwillError) throw cause;
          throw new TwillError('permission', `cannot write the CNI configuration to ${directory}`, cause);
        }
      },
    });
  }
}
