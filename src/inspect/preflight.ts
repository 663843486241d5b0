import { type Prefix, parsePrefix, tryParseAddress } from '../model/address.ts';
import { describeError, TwillError } from '../model/error.ts';
import { type Look, looking } from './look.ts';
import { type InspectFlags, type Screen, show } from './output.ts';
import { type PreflightAnswer, type PreflightCheck, poor, preflightAnswer } from './plan/preflight.ts';
import { featureChecks, rightsChecks, settingChecks } from './preflight/kernel.ts';
import { neighbourChecks } from './preflight/neighbours.ts';
import { networkChecks, nodeChecks } from './preflight/network.ts';
import { toolChecks } from './preflight/tools.ts';
import { type Cell, formatTable } from './table.ts';

export interface PreflightFlags extends InspectFlags {
  /** Addresses of other nodes. */
  readonly peer?: readonly string[];
  /** The pod networks to be. */
  readonly network?: readonly string[];
  readonly cniConfDir: string;
}

/** @throws TwillError `invalid` naming the flag */
function readFlags({ peer = [], network = [] }: PreflightFlags): {
  peers: readonly string[];
  networks: Prefix[];
} {
  for (const text of peer)
    if (tryParseAddress(text) === undefined)
      throw new TwillError('invalid', `--peer '${text}' is not an IP address`);
  try {
    return { peers: peer, networks: network.map(parsePrefix) };
  } catch (cause) {
    throw new TwillError('invalid', '--network is not a network', cause);
  }
}

export async function lookAtPreflight(look: Look, flags: PreflightFlags): Promise<PreflightAnswer> {
  const { peers, networks } = readFlags(flags);
  const { state } = await look.agent();
  const known = state?.network?.families.map(({ network }) => network) ?? [];
  const part = async (
    area: PreflightCheck['area'],
    work: () => Promise<PreflightCheck[]> | PreflightCheck[],
  ): Promise<PreflightCheck[]> => {
    try {
      return await work();
    } catch (error) {
      return [poor(area, 'checks', `could not be made: ${describeError(error)}`, 'run as root on the node')];
    }
  };
  const parts = await Promise.all([
    part('rights', rightsChecks),
    part('kernel', featureChecks),
    part('settings', () => settingChecks(state?.leases.length)),
    part('tools', toolChecks),
    part('network', () =>
      networkChecks(look.kernel, {
        peers,
        networks: networks.length > 0 ? networks : known,
        bridge: state?.settings.bridge ?? 'cni0',
        state,
      }),
    ),
    part('neighbours', () => neighbourChecks(flags.cniConfDir)),
    part('node', nodeChecks),
  ]);
  return preflightAnswer(parts.flat());
}

const tones = { ok: 'good', warning: 'poor', failed: 'bad' } as const;

function preflightTable({ checks, failed, warnings }: PreflightAnswer, screen: Screen): string {
  const rows = checks.map(({ area, name, state, detail, advice }): Cell[] => [
    { text: state, tone: tones[state] },
    area,
    name,
    advice === undefined ? detail : `${detail}. What to do: ${advice}`,
  ]);
  const verdict =
    failed > 0
      ? `${failed} failed, ${warnings} warnings: Twill does not work here as it is`
      : warnings > 0
        ? `${warnings} warnings, nothing failed`
        : 'this node is ready';
  const tone = failed > 0 ? 'bad' : warnings > 0 ? 'poor' : 'good';
  return `${screen.paint(verdict, tone)}\n${formatTable(['STATE', 'AREA', 'CHECK', 'DETAIL'], rows, screen)}`;
}

/** `twill preflight` */
export async function showPreflight(flags: PreflightFlags): Promise<void> {
  await show(flags, {
    look: () => looking(flags, (look) => lookAtPreflight(look, flags)),
    table: preflightTable,
    exitStatus: ({ failed }) => (failed > 0 ? 1 : 0),
  });
}
