import { describeError } from '../model/error.ts';
import { readFileIfPresent } from '../process/files.ts';
import { hostPortDifferences } from './host-ports.ts';
import type { Look } from './look.ts';
import type { NodeView, OverlayView } from './overlay.ts';
import { peerTableDifferences } from './peer-table.ts';
import { deviceDifferences, underlayDifferences } from './plan/devices.ts';
import { type Difference, sortDifferences } from './plan/difference.ts';
import { entryDifferences, entryState } from './plan/entries.ts';
import { firstPod } from './plan/peer-rows.ts';
import { describeWay, isExpected } from './plan/reach.ts';
import type { AgentState } from './plan/state.ts';
import { wantedSubnetFile } from './plan/subnet-file.ts';
import { podName } from './plan/wiring.ts';
import { settingDifferences } from './settings.ts';
import { trafficDifferences } from './traffic-rules.ts';

/** What a comparison came to. */
export interface Compared {
  readonly differences: readonly Difference[];
  /** What could not be compared, and why: a sentence each. */
  readonly unknown: readonly string[];
}

/** The way that the kernel takes decides, whatever routes stand: a longer prefix or a rule may come before. */
async function wayDifferences(look: Look, overlay: OverlayView, { names }: NodeView): Promise<Difference[]> {
  const routes = [...overlay.desired.values()].filter((entry) => entry.kind === 'route');
  const ways = await look.waysTo(routes.map(({ destination }) => firstPod(destination)));
  return routes.flatMap((route): Difference[] => {
    const target = firstPod(route.destination).text;
    const answer = ways.get(target);
    if (entryState(route, overlay.actual) !== 'ok' || isExpected(route, answer)) return [];
    return [
      {
        kind: 'route',
        object: route.destination.text,
        state: 'wrong',
        detail: `the route stands, and the kernel sends to ${target} another way (${describeWay(answer, names)}): a longer prefix, a routing rule or a device that is down comes before`,
        show: `ip route get ${target}`,
      },
    ];
  });
}

async function podDifferences(look: Look): Promise<Difference[]> {
  const troubles = await look.podTroubles();
  const found = [...troubles].flatMap(([record, list]) =>
    list.map(
      (detail): Difference => ({
        kind: 'pod',
        object: podName(record),
        state: 'wrong',
        detail,
        show:
          detail.includes('of the pod') || detail.startsWith('the pod')
            ? `nsenter --net=${record.netns} ip address; nsenter --net=${record.netns} ip route`
            : `ip -d link show ${record.hostVeth}`,
      }),
    ),
  );
  return found;
}

function subnetFileDifferences(state: AgentState): Difference[] {
  const { subnetFile } = state.settings;
  const wanted = wantedSubnetFile(state);
  if (wanted === undefined) return [];
  const text = readFileIfPresent(subnetFile);
  if (text === wanted) return [];
  const base = {
    kind: 'subnet file',
    object: subnetFile,
    show: `cat ${subnetFile}`,
  } as const;
  return text === undefined
    ? [{ ...base, state: 'missing', detail: 'the file is gone' }]
    : [{ ...base, state: 'wrong', detail: `should be: ${wanted.trim().replaceAll('\n', ' ')}` }];
}

/** Compares all that the agent keeps with what is. */
export async function agentDifferences(look: Look): Promise<Compared> {
  const { state } = await look.agent();
  if (state === undefined) return { differences: [], unknown: [] };
  const node = await look.node();
  const unknown: string[] = [];
  const part = async (
    what: string,
    work: () => Promise<Difference[]> | Difference[],
  ): Promise<Difference[]> => {
    try {
      return await work();
    } catch (error) {
      unknown.push(`${what}: ${describeError(error)}`);
      return [];
    }
  };
  let overlay: OverlayView | undefined;
  // What starts programs goes on beside what asks the kernel.
  const rules = part("the rules for pods' traffic", () => trafficDifferences(state));
  const found = [
    ...(state.underlay === undefined ? [] : underlayDifferences(state.underlay, node)),
    ...state.devices.flatMap((plan) => deviceDifferences(plan, node)),
    ...(await part('routes and forwarding entries', async () => {
      overlay = await look.overlay();
      if (overlay === undefined)
        throw new Error('this node holds no lease, so nothing says what they should be');
      return [
        ...entryDifferences(overlay.desired, overlay.actual, node.names),
        ...(await wayDifferences(look, overlay, node)),
      ];
    })),
    ...(await part('settings of the kernel', () =>
      settingDifferences(state.network?.families.map(({ family }) => family) ?? []),
    )),
    ...(await part('pods', () => podDifferences(look))),
    ...(await part('host ports', async () => hostPortDifferences(state, (await look.pods()).pods))),
    ...(await part('the subnet file', () => subnetFileDifferences(state))),
    ...(await part('VXLAN peers', () => peerTableDifferences(state, overlay?.desired ?? new Map()))),
    ...(await rules),
  ];
  return { differences: sortDifferences(found), unknown };
}
