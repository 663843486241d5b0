import { existsSync, readdirSync, rmdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { stateFile } from '../inspect/plan/state-file.ts';
import { agentSettingsFile, proxySettingsFile } from '../kernel/remembered-sysctls.ts';
import type { Removal } from '../model/removal.ts';
import { queueDirectory } from '../pods/cni/deletions.ts';

export interface FilePlaces {
  readonly stateDir: string;
  readonly cniSocket: string;
  readonly proxySocket: string;
  readonly subnetFile: string;
}

/** A directory that somebody else uses, too, stays. */
function removeIfEmpty(path: string): void {
  try {
    if (readdirSync(path).length === 0) rmdirSync(path);
  } catch {
    // it is not there, or is a mount of a container's
  }
}

/**
 * The files that agent, plugin and proxy keep, each by its name: the directories may be anybody's. Those that are left
 * empty go, too.
 */
export function findFiles({ stateDir, cniSocket, proxySocket, subnetFile }: FilePlaces): Removal[] {
  const ours = [
    join(stateDir, 'pods'),
    join(stateDir, 'vtep-macs.json'),
    join(stateDir, 'route-localnet'),
    join(stateDir, agentSettingsFile),
    join(dirname(proxySocket), proxySettingsFile),
    stateFile(cniSocket, 'agent'),
    stateFile(proxySocket, 'proxy'),
    queueDirectory(cniSocket),
    cniSocket,
    proxySocket,
    subnetFile,
  ];
  const found = [...new Set(ours)].filter((path) => existsSync(path));
  const removals = found.map(
    (path): Removal => ({
      what: `${path}: removed`,
      apply: () => rmSync(path, { recursive: true, force: true }),
    }),
  );
  if (found.length === 0) return [];
  const directories = new Set([stateDir, ...found.map((path) => dirname(path))]);
  const apply = (): void => {
    for (const directory of directories) removeIfEmpty(directory);
  };
  return [
    ...removals,
    { what: `directories that are empty now removed: ${[...directories].join(', ')}`, apply },
  ];
}
