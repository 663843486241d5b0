import { wallClockMs } from '../process/clock.ts';
import { age } from './age.ts';
import type { Screen } from './output.ts';
import { meshText } from './plan/mesh.ts';
import type { Problem, Severity } from './plan/problem.ts';
import type { ProcessAnswer, StatusAnswer } from './plan/status.ts';
import { type Cell, formatTable, type Tone } from './table.ts';

const severityTones: Readonly<Record<Severity, Tone>> = { down: 'bad', degraded: 'poor', note: 'faint' };
const verdictTones = { healthy: 'good', degraded: 'poor', down: 'bad' } as const;

function problemRow({ severity, area, what, show }: Problem): Cell[] {
  return [{ text: severity, tone: severityTones[severity] }, area, { text: what, below: show }];
}

function processText({ answers, why, at }: ProcessAnswer, now: number): string {
  if (answers) return 'answers';
  return `${why ?? 'away'}${at === undefined ? '' : `; what is shown is of ${age(at, now)} ago`}`;
}

type Row = readonly [name: string, text: string];

function leaseRows({ lease }: StatusAnswer): Row[] {
  if (lease === undefined) return [['lease', 'none']];
  const { subnets, expires, source, sourceConnected } = lease;
  return [
    ['lease', `${subnets.join(', ')}${expires === undefined ? '' : `, ends ${expires} unless renewed`}`],
    ['source', `${source}, ${sourceConnected ? 'followed' : 'not followed now'}`],
  ];
}

function networkRows({ network }: StatusAnswer): Row[] {
  if (network === undefined) return [];
  const { backend, networks, interface: name, interfaceWhy, addresses, podMtu, mtuWhy } = network;
  return [
    ['pod network', `${networks.join(', ')} over ${backend} (as the network configuration says)`],
    ['interface', `${name} (${addresses.join(', ')}): ${interfaceWhy}`],
    ['MTU', `${podMtu ?? 'not known yet'} for pods: ${mtuWhy}`],
  ];
}

function proxyRows({ proxy }: StatusAnswer, now: number): Row[] {
  if (proxy === undefined) return [['proxy', 'none of Twill runs here']];
  const { mode, modeWhy, source, services, families } = proxy;
  const each = families.map(
    ({ family, variant, sinceWrittenSeconds: since }) =>
      `${family} by ${variant}${since === undefined ? ', not written yet' : `, as they should be ${since}s ago`}`,
  );
  return [
    ['proxy', processText(proxy, now)],
    ['Services', `${services} from ${source}, mode ${mode}; ${each.join('; ')}`],
    ...(modeWhy === undefined ? [] : [['mode', `${mode}, chosen here: ${modeWhy}`] as const]),
  ];
}

function loopRows({ agent, proxy }: StatusAnswer, now: number): Cell[][] {
  return [...agent.loops, ...(proxy?.loops ?? [])].map(
    ({ name, runs, failures, lastSuccess, lastError, nextRunSeconds }) => [
      name,
      runs === 0
        ? 'not run yet'
        : lastSuccess === undefined
          ? { text: 'never', tone: 'bad' }
          : `${age(lastSuccess, now)} ago`,
      nextRunSeconds === undefined ? '-' : `${nextRunSeconds}s`,
      String(runs),
      String(failures),
      lastError === undefined ? '' : { text: lastError, tone: 'bad' },
    ],
  );
}

function counts(record: Readonly<Record<string, number>>): string {
  const some = Object.entries(record).filter(([, count]) => count > 0);
  return some.length === 0 ? 'nothing' : some.map(([kind, count]) => `${count} ${kind}`).join(', ');
}

function facts(answer: StatusAnswer, now: number): Row[] {
  const { agent, peers, mesh, addresses, repairs, drift, versions } = answer;
  const used = addresses.map(({ family, used: count, size }) => `${count} of ${size} ${family}`);
  const tools = [`iptables ${versions.iptables ?? 'missing'}`, `nft ${versions.nft ?? 'missing'}`];
  return [
    ['agent', processText(agent, now)],
    ...leaseRows(answer),
    ...networkRows(answer),
    ['other nodes', `${peers.count}${peers.skipped.length > 0 ? `, ${peers.skipped.length} skipped` : ''}`],
    ['mesh', meshText(mesh)],
    ['pod addresses', used.length === 0 ? 'not known' : `${used.join(', ')} in use`],
    ...(answer.rules === undefined ? [] : [['rules', `${answer.rules.tool}: ${answer.rules.why}`] as const]),
    ...proxyRows(answer, now),
    ['put right so far', counts(repairs)],
    ['not right now', counts(drift)],
    [
      'versions',
      `twill ${versions.twill}, agent ${versions.agent ?? '-'}, proxy ${versions.proxy ?? '-'}, kernel ${versions.kernel}, node ${versions.node}, ${tools.join(', ')}`,
    ],
  ];
}

/** The verdict, then what is wrong, then how things are. */
export function statusTable(answer: StatusAnswer, screen: Screen): string {
  const { paint, width } = screen;
  const now = wallClockMs();
  const options = { paint, width };
  const { problems, verdict, peers } = answer;
  const skipped = peers.skipped.slice(0, 10).map(({ name, reason }): Cell[] => [name, reason]);
  const loops = loopRows(answer, now);
  const parts = [
    `${paint(answer.summary, verdictTones[verdict])}\n`,
    ...(problems.length === 0
      ? []
      : [formatTable(['SEVERITY', 'AREA', 'PROBLEM'], problems.map(problemRow), options)]),
    formatTable(
      ['', ''],
      facts(answer, now).map(([name, text]) => [name, text]),
      { ...options, headless: true },
    ),
    ...(loops.length === 0
      ? []
      : [formatTable(['LOOP', 'LAST SUCCESS', 'NEXT', 'RUNS', 'FAILURES', 'LAST ERROR'], loops, options)]),
    ...(skipped.length === 0 ? [] : [formatTable(['SKIPPED', 'WHY'], skipped, options)]),
  ];
  return parts.join('\n');
}
