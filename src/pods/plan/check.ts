import { portProblem } from './bridge.ts';
import type { PodRecord } from './pod.ts';

/** What of a pod must be as it was made: later plugins of a chain may have changed the rest. */
export interface Expected {
  readonly addresses: readonly string[];
  /** Destinations in CIDR notation. */
  readonly routes: readonly string[];
}

/** What there is inside a pod's namespace, in the same words. */
export interface Standing extends Expected {
  /** The pod's interface; undefined where there is none of its name. */
  readonly device: { readonly up: boolean } | undefined;
}

/** What a pod has lost inside its namespace; undefined where all is as it was made. */
export function insideProblem(
  { ifname, up }: Pick<PodRecord, 'ifname' | 'up'>,
  expected: Expected,
  standing: Standing,
): string | undefined {
  if (standing.device === undefined) return `the pod has no interface ${ifname}`;
  // The kernel takes routes from a device that is down.
  if (up === false) return undefined;
  if (!standing.device.up) return `${ifname} of the pod is down`;
  const address = expected.addresses.find((one) => !standing.addresses.includes(one));
  if (address !== undefined) return `${ifname} of the pod has lost ${address}`;
  const route = expected.routes.find((one) => !standing.routes.includes(one));
  return route === undefined ? undefined : `the pod has lost its route to ${route}`;
}

/** A device of the node as far as a pod's wiring needs it. */
export interface WiredLink {
  readonly index: number;
  readonly name: string;
  readonly up: boolean;
  readonly master: number;
  readonly hairpin: boolean | undefined;
  readonly isolated?: boolean | undefined;
}

/** What is not as it was made with a pod's device on the node, and the bridge that it is in. */
export function outsideProblems(
  record: Pick<PodRecord, 'bridge' | 'hostVeth' | 'hairpin' | 'isolated'>,
  links: ReadonlyMap<string, WiredLink>,
): string[] {
  const bridge = links.get(record.bridge);
  if (bridge === undefined) return [`the bridge ${record.bridge} is gone`];
  const device = `its device ${record.hostVeth}`;
  const port = links.get(record.hostVeth);
  if (port === undefined) return [`${device} is gone`];
  const problems: string[] = [];
  if (!bridge.up) problems.push(`the bridge ${record.bridge} is down`);
  const isPort = port.master === bridge.index;
  if (!isPort) problems.push(`${device} is no port of the bridge ${record.bridge}`);
  // What is no port has no settings of one.
  const problem = isPort || !port.up ? portProblem(port, record) : undefined;
  return problem === undefined ? problems : [...problems, `${device} ${problem}`];
}
