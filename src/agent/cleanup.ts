import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { listLinks } from '../kernel/netlink/links.ts';
import { RtSocket } from '../kernel/netlink/socket.ts';
import { removeUnusedTables } from '../kernel/nft.ts';
import { agentSettingsFile, proxySettingsFile, restoreSysctls } from '../kernel/remembered-sysctls.ts';
import { findNodeMarks } from '../leases/kubernetes/cleanup.ts';
import { previousPrefixes } from '../leases/plan/subnet-file.ts';
import { findTrafficRules } from '../masquerade/cleanup.ts';
import { families } from '../model/address.ts';
import { describeError, TwillError } from '../model/error.ts';
import type { Removal } from '../model/removal.ts';
import { blackholeRemovals } from '../overlay/blackhole.ts';
import { findOverlay } from '../overlay/cleanup.ts';
import { attachedPods, findPodRules, podDevices } from '../pods/cleanup.ts';
import { findConfiguration, findInstalledExecutable, installedExecutable } from '../pods/cni/install.ts';
import { readFileIfPresent } from '../process/files.ts';
import { isServed } from '../process/unix-server.ts';
import { findProxyRules, findProxyTables } from '../services/cleanup.ts';
import { findOtherProxy, findProgram } from '../services/other-proxy.ts';
import { agentWasHere, type FilePlaces, findFiles } from './cleanup-files.ts';

export interface CleanupFlags extends FilePlaces {
  readonly dryRun?: boolean;
  readonly force?: boolean;
  readonly bridge: string;
  readonly cniBinDir: string;
  readonly cniConfDir: string;
  /** As the agent's flags of these names. */
  readonly kubeSubnetMgr?: boolean;
  readonly kubeApiUrl?: string;
  readonly kubeconfigFile?: string;
  readonly kubeletKubeconfig: string[];
  readonly kubeAnnotationPrefix: string;
}

function leaseInKubernetes(flags: CleanupFlags): Removal[] | Promise<Removal[]> {
  if (flags.kubeSubnetMgr !== true) return [];
  return findNodeMarks({
    client: {
      kubeconfig: flags.kubeconfigFile,
      // An empty one, of a ConfigMap, is none.
      master: flags.kubeApiUrl || undefined,
      kubeletKubeconfigs: flags.kubeletKubeconfig,
    },
    annotationPrefix: flags.kubeAnnotationPrefix,
    env: process.env,
  });
}

/** Who still needs what would be taken away. */
async function users(flags: CleanupFlags, pods: readonly string[]): Promise<string[]> {
  const reasons: string[] = [];
  // One that is stopped, or of another version, may not answer what it is asked.
  if (await isServed(flags.cniSocket)) reasons.push(`the agent runs (it listens on ${flags.cniSocket})`);
  const flannel = findProgram('flanneld');
  if (flannel !== undefined)
    reasons.push(`${flannel} runs, which has devices, routes and rules of the same names`);
  if (await isServed(flags.proxySocket))
    reasons.push(`a proxy of Twill's runs (it listens on ${flags.proxySocket})`);
  if (pods.length > 0) {
    const some = pods.slice(0, 5).join(', ');
    reasons.push(`${pods.length} pods are attached (${some}${pods.length > 5 ? ', …' : ''})`);
  }
  return reasons;
}

const ADVICE = "stop what runs, drain the node, or use --force, which takes the pods' network away";

/** Where a kube-proxy runs, the chains of Services are its own: it stays when an agent goes that it had beside it. */
async function rulesOfServices({ proxySocket }: CleanupFlags): Promise<Removal[]> {
  const other = (await isServed(proxySocket)) ? undefined : await findOtherProxy();
  if (other === undefined) return await findProxyRules(true);
  const what = `chains of Services in iptables: left, for ${other} runs`;
  return [{ what, apply: () => {} }, ...(await findProxyTables())];
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
    () => findConfiguration(flags.cniConfDir),
    // While the API answers at its Service address still, where that is the one that is asked.
    () => leaseInKubernetes(flags),
    () => rulesOfServices(flags),
    findPodRules,
    findTrafficRules,
    () => podDevices(socket, links, flags.bridge),
    () => blackholeRemovals(socket, subnets),
    () => findOverlay(socket, links),
    () => settings.flatMap(restoreSysctls),
    () => findInstalledExecutable(flags.cniBinDir),
    () => findFiles(flags),
    () => [
      {
        what: 'chains and tables of iptables-nft that hold nothing any more: removed',
        apply: removeUnusedTables,
      },
    ],
  ];
  const removals: Removal[] = [];
  for (const look of places)
    try {
      removals.push(...(await look()));
    } catch (error) {
      failed.push(describeError(error));
    }
  const wasHere = agentWasHere(flags) || existsSync(installedExecutable(flags.cniBinDir));
  return flags.force === true || wasHere ? removals : withoutFlannels(removals, flags);
}

/** On a node that Twill has never been on these are flannel's: the DaemonSet that cleans up comes to such nodes, too. */
function withoutFlannels(removals: readonly Removal[], { stateDir, cniBinDir }: CleanupFlags): Removal[] {
  const why = `nothing of Twill's is in ${stateDir} or ${cniBinDir}: it may be a flannel's; --force takes it away all the same`;
  return removals.map((one) =>
    one.flannels === undefined ? one : { what: `${one.flannels}: left, for ${why}`, apply: () => {} },
  );
}

/** One after the other. @param failed is told what could not be done */
async function applyEach(removals: readonly Removal[], dryRun: boolean, failed: string[]): Promise<void> {
  for (const { what, apply, hindrance, witness } of removals) {
    try {
      if (hindrance !== undefined) failed.push(`${what}: ${hindrance}`);
      else if (dryRun) process.stdout.write(`would do: ${what}\n`);
      else if (witness === true && failed.length > 0) process.stdout.write(`${what} when the rest is done\n`);
      else process.stdout.write(`${(await apply()) ?? what}\n`);
    } catch (error) {
      failed.push(`${what}: ${describeError(error)}`);
    }
  }
}

/**
 * `twill cleanup`: takes away what is ours on this node, a line for each thing. Doing it twice is fine. A dry run says what
 * it would do also while it would refuse.
 * @throws TwillError `conflict` while it is used, `kernel` when something could not be taken away
 */
export async function cleanUpNode(flags: CleanupFlags): Promise<void> {
  const socket = new RtSocket();
  try {
    const pods = attachedPods(await listLinks(socket), flags.bridge).map(({ name }) => name);
    const used = flags.force === true ? [] : await users(flags, pods);
    if (used.length > 0) {
      if (flags.dryRun !== true)
        throw new TwillError('conflict', `nothing was changed, for ${used.join(', and ')}: ${ADVICE}`);
      process.stdout.write(`would refuse now, for ${used.join(', and ')}: ${ADVICE}\n`);
    }
    const failed: string[] = [];
    await applyEach(await find(flags, socket, failed), flags.dryRun === true, failed);
    if (failed.length > 0) throw new TwillError('kernel', `not done: ${failed.join('; ')}`);
  } finally {
    socket.close();
  }
}
