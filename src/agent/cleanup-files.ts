import { existsSync, readdirSync, rmdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { stateFile } from '../inspect/plan/state-file.ts';
import { agentSettingsFile, proxySettingsFile } from '../kernel/remembered-sysctls.ts';
import type { Removal } from '../model/removal.ts';
import { queueDirectory } from '../pods/cni/deletions.ts';
import { unfinishedFiles } from '../process/durable.ts';
import { removeTree } from '../process/files.ts';

export interface FilePlaces {
  readonly stateDir: string;
  readonly cniSocket: string;
  readonly proxySocket: string;
  readonly subnetFile: string;
}

/** A directory that somebody else uses, too, stays. @returns what became of it */
function removeIfEmpty(path: string): string {
  if (!existsSync(path)) return `${path}: is not there any more`;
  const [one, ...others] = readdirSync(path);
  if (one !== undefined)
    return `${path}: left, for ${one}${others.length > 0 ? ` and ${others.length} more` : ''} in it`;
  try {
    rmdirSync(path);
    return `${path}: removed`;
  } catch (error) {
    // A volume of this container's, whose own files cannot be changed.
    if (!['EBUSY', 'EROFS'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
    return `${path}: left empty, for it is a mount, or on a file system that is read-only`;
  }
}

const agentsFiles = ({ stateDir, cniSocket }: FilePlaces): string[] => [
  join(stateDir, 'pods'),
  join(stateDir, 'vtep-macs.json'),
  join(stateDir, 'route-localnet'),
  join(stateDir, agentSettingsFile),
  stateFile(cniSocket, 'agent'),
  queueDirectory(cniSocket),
  cniSocket,
];

/** Whether an agent has been here since the node was booted. */
export const agentWasHere = (places: FilePlaces): boolean =>
  agentsFiles(places).some((path) => existsSync(path));

/** With what was begun to be written there. */
function standing(path: string): string[] {
  const unfinished = existsSync(dirname(path)) ? unfinishedFiles(dirname(path), path) : [];
  return [...(existsSync(path) ? [path] : []), ...unfinished];
}

/**
 * The files that agent, plugin and proxy keep, each by its name: the directories may be anybody's. Those that are left
 * empty go, too.
 */
export function findFiles(places: FilePlaces): Removal[] {
  const { stateDir, proxySocket, subnetFile } = places;
  const witnesses = agentsFiles(places);
  const ours = [
    join(dirname(proxySocket), proxySettingsFile),
    stateFile(proxySocket, 'proxy'),
    proxySocket,
    subnetFile,
    ...witnesses,
  ];
  const found = [...new Set(ours.flatMap(standing))];
  if (found.length === 0) return [];
  const directories = [...new Set([stateDir, ...found.map((path) => dirname(path))])];
  return [
    ...found.map(
      (path): Removal => ({
        what: `${path}: removed`,
        ...(path === subnetFile ? { flannels: path } : {}),
        witness: witnesses.some((one) => one === path),
        apply: () => removeTree(path),
      }),
    ),
    ...directories.map((path) => ({
      what: `${path}: removed, if nothing else is in it`,
      apply: () => removeIfEmpty(path),
    })),
  ];
}
