import { dirname, join } from 'node:path';
import { agentState } from '../inspect/states.ts';
import { listLinks } from '../kernel/netlink/links.ts';
import { RtSocket } from '../kernel/netlink/socket.ts';
import { removeUnusedTables } from '../kernel/nft.ts';
import { agentSettingsFile, proxySettingsFile, restoreSysctls } from '../kernel/remembered-sysctls.ts';
import { previousPrefixes } from '../leases/plan/subnet-file.ts';
import { findTrafficRules } from '../masquerade/cleanup.ts';
import { families } from '../model/address.ts';
import { describeError, TwillError } from '../model/error.ts';
import type { Removal } from '../model/removal.ts';
import { blackholeRemovals } from '../overlay/blackhole.ts';
import { findOverlay } from '../overlay/cleanup.ts';
import { attachedPods, findPodRules, podDevices } from '../pods/cleanup.ts';
import { findInstalled } from '../pods/cni/install.ts';
import { readFileIfPresent } from '../process/files.ts';
import { findProxyRules } from '../services/cleanup.ts';
import { findOtherProxy } from '../services/other-proxy.ts';
import { type FilePlaces, findFiles } from './cleanup-files.ts';

export interface CleanupFlags extends FilePlaces {
  readonly dryRun?: boolean;
  readonly force?: boolean;
  readonly bridge: string;
  readonly cniBinDir: string;
  readonly cniConfDir: string;
}

/** @throws TwillError `conflict` saying who still needs what would be taken away */
async function refuseWhileUsed(flags: CleanupFlags, pods: readonly string[]): Promise<void> {
  const reasons: string[] = [];
  const agent = await agentState(flags.cniSocket);
  if (agent.live) reasons.push(`the agent runs (it answers on ${flags.cniSocket})`);
  const proxy = await findOtherProxy();
  if (proxy !== undefined) reasons.push(`${proxy} runs`);
  if (pods.length > 0) {
    const some = pods.slice(0, 5).join(', ');
    reasons.push(`${pods.length} pods are attached (${some}${pods.length > 5 ? ', …' : ''})`);
  }
  if (reasons.length === 0) return;
  throw new TwillError(
    'conflict',
    `nothing was changed, for ${reasons.join(', and ')}: stop what runs, drain the node, or use --force, which takes the pods' network away`,
  );
}

/**
 * What of ours is on this node, in the order in which it goes: first what would make more of it.
 * @param failed is told what could not be looked at, which keeps nothing else from going
 */
async function find(flags: CleanupFlags, socket: RtSocket, failed: string[]): Promise<Removal[]> {
  const links = await listLinks(socket);
  const settings = [
    join(flags.stateDir, agentSettingsFile),
    join(dirname(flags.proxySocket), proxySettingsFile),
  ];
  const subnets = previousPrefixes(readFileIfPresent(flags.subnetFile) ?? '', families, 'SUBNET');
  const places: readonly (() => Removal[] | Promise<Removal[]>)[] = [
    () => findInstalled(flags.cniConfDir, flags.cniBinDir),
    () => findProxyRules(true),
    findPodRules,
    findTrafficRules,
    () => podDevices(socket, links, flags.bridge),
    () => blackholeRemovals(socket, subnets),
    () => findOverlay(socket, links),
    () => settings.flatMap(restoreSysctls),
    () => findFiles(flags),
    () => [{ what: 'tables of iptables-nft that hold nothing any more: removed', apply: removeUnusedTables }],
  ];
  const removals: Removal[] = [];
  for (const look of places)
    try {
      removals.push(...(await look()));
    } catch (error) {
      failed.push(describeError(error));
    }
  return removals;
}

/**
 * `twill cleanup`: takes away what is ours on this node, a line for each thing. Doing it twice is fine.
 * @throws TwillError `conflict` while it is used, `kernel` when something could not be taken away
 */
export async function cleanUpNode(flags: CleanupFlags): Promise<void> {
  const socket = new RtSocket();
  try {
    const pods = attachedPods(await listLinks(socket), flags.bridge).map(({ name }) => name);
    if (flags.force !== true) await refuseWhileUsed(flags, pods);
    const failed: string[] = [];
    for (const { what, apply } of await find(flags, socket, failed)) {
      try {
        if (flags.dryRun !== true) await apply();
        process.stdout.write(`${flags.dryRun === true ? 'would do: ' : ''}${what}\n`);
      } catch (error) {
        failed.push(`${what}: ${describeError(error)}`);
      }
    }
    if (failed.length > 0) throw new TwillError('kernel', `not done: ${failed.join('; ')}`);
  } finally {
    socket.close();
  }
}
