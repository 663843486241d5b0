import type { Removal } from '../model/removal.ts';
import { readFileIfPresent, writeFileAtomically } from '../process/files.ts';
import { readSysctl, writeSysctl } from './sysctl.ts';

/** Names of such files: the agent's in its state directory, the proxy's beside its socket. */
export const agentSettingsFile = 'agent-settings.json';
export const proxySettingsFile = 'proxy-settings.json';

const VERSION = 1;

interface Changed {
  readonly before: string;
  readonly after: string;
}

/** The file of {@link RememberedSysctls}; nothing where there is none, or one of a version to come. */
function readChanged(path: string): Map<string, Changed> {
  try {
    const { version, changed } = JSON.parse(readFileIfPresent(path) ?? '{}') as {
      version?: number;
      changed?: Record<string, Changed>;
    };
    return new Map(version === VERSION ? Object.entries(changed ?? {}) : []);
  } catch {
    return new Map(); // damaged: what was changed stays changed
  }
}

/**
 * Sets settings of the whole node, and remembers in a file what they were before the first change: for whoever takes
 * Twill away. Not for those of devices of ours, which go with these.
 */
export class RememberedSysctls {
  private readonly path: string;
  private readonly changed: Map<string, Changed>;

  /** @param path of the file; it must not outlive the boot, as the settings do not */
  constructor(path: string) {
    this.path = path;
    this.changed = readChanged(path);
  }

  /** @returns false when it was right before @throws TwillError as {@link writeSysctl} */
  readonly write = (name: string, value: string): boolean => {
    const before = readSysctl(name);
    if (before === undefined || before === value) return writeSysctl(name, value);
    const first = this.changed.get(name)?.before ?? before;
    this.changed.set(name, { before: first, after: value });
    this.keep();
    return writeSysctl(name, value);
  };

  private keep(): void {
    const text = JSON.stringify({ version: VERSION, changed: Object.fromEntries(this.changed) });
    try {
      writeFileAtomically(this.path, `${text}\n`);
    } catch {
      // That it can be set counts more than that it can be set back.
    }
  }
}

/** What sets the settings of such a file back. Those that somebody has changed since stay as they are, and are named. */
export function restoreSysctls(path: string): Removal[] {
  return [...readChanged(path)].flatMap(([name, { before, after }]): Removal[] => {
    const now = readSysctl(name);
    if (now === undefined || now === before) return [];
    if (now !== after)
      return [
        {
          what: `sysctl ${name}: left at ${now}, which somebody set after Twill had set ${after}`,
          apply: () => {},
        },
      ];
    return [{ what: `sysctl ${name}: set back to ${before}`, apply: () => void writeSysctl(name, before) }];
  });
}
