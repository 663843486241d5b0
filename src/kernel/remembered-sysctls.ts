import type { Removal } from '../model/removal.ts';
import { object } from '../model/untrusted.ts';
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

/** The file of {@link RememberedSysctls}; undefined where it is damaged, or of a version to come. */
function readChanged(path: string): Map<string, Changed> | undefined {
  const text = readFileIfPresent(path);
  if (text === undefined) return new Map();
  try {
    const { version, changed } = object(JSON.parse(text));
    const entries = Object.entries(object(changed)).map(([name, one]) => [name, object(one)] as const);
    const whole = entries.every((entry) =>
      ['before', 'after'].every((field) => typeof entry[1][field] === 'string'),
    );
    return version === VERSION && whole ? new Map(entries as unknown as [string, Changed][]) : undefined;
  } catch {
    return undefined;
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
    this.changed = readChanged(path) ?? new Map();
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
  const changed = readChanged(path);
  if (changed === undefined) {
    const what = `sysctls: left as they are, for what Twill changed cannot be read from ${path}`;
    return [{ what, apply: () => {} }];
  }
  return [...changed].flatMap(([name, { before, after }]): Removal[] => {
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
