import { ask } from '../../src/inspect/client.ts';
import type { RunResult } from '../../src/kernel/process.ts';
import type { PodRecord } from '../../src/pods/plan/pod.ts';
import { cniFolder, cniProgram } from './files.ts';
import type { Namespace } from './namespace.ts';

export interface CniCall {
  readonly command: string;
  readonly containerId?: string;
  /** Path of the pod's network namespace. */
  readonly netns?: string;
  readonly ifname?: string;
  readonly args?: string;
  /** The network configuration, or text to send as it is. */
  readonly config: object | string;
}

/** The part of an ADD result (specification 1.0 and later) that the lab reads. */
export interface CniResult {
  readonly cniVersion: string;
  readonly interfaces?: readonly { name: string; mac?: string; sandbox?: string; mtu?: number }[];
  readonly ips?: readonly { address: string; gateway?: string; interface?: number }[];
  readonly routes?: readonly { dst: string; gw?: string; mtu?: number }[];
}

/** Calls the compiled CNI executable in a node's namespace as a container runtime does. */
export function callCni(node: Namespace, call: CniCall): Promise<RunResult> {
  const env: NodeJS.ProcessEnv = { CNI_COMMAND: call.command, CNI_PATH: cniFolder };
  if (call.containerId !== undefined) env.CNI_CONTAINERID = call.containerId;
  if (call.netns !== undefined) env.CNI_NETNS = call.netns;
  if (call.ifname !== undefined) env.CNI_IFNAME = call.ifname;
  if (call.args !== undefined) env.CNI_ARGS = call.args;
  const input = typeof call.config === 'string' ? call.config : JSON.stringify(call.config);
  return node.run(cniProgram, [], { env, input });
}

/** What the agent on the socket knows of its pods. */
export async function podRecords(socketPath: string): Promise<PodRecord[]> {
  return JSON.parse(await ask('agent', socketPath, { inspect: 'pods' })).pods;
}
