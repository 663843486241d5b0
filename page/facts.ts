import type { StatusEvent } from '../src/inspect/page/plan/view.ts';
import { age, at, type Child, clock, el, fill, plural, say, sign, type Tone } from './dom.ts';

type Fact = readonly [name: string, ...what: Child[]];

function counts(record: Readonly<Record<string, number>>): string {
  const some = Object.entries(record).filter(([, count]) => count > 0);
  return some.length === 0 ? 'nothing' : some.map(([kind, count]) => `${count} ${kind}`).join(', ');
}

type Loop = StatusEvent['agent']['loops'][number];

function loopText({ runs, lastSuccess, lastError }: Loop, now: number): readonly [Tone, string] {
  if (lastError !== undefined) return ['bad', lastError];
  if (lastSuccess !== undefined) return ['good', `went well ${age(now - Date.parse(lastSuccess))} ago`];
  return runs === 0 ? ['none', 'has not run yet'] : ['poor', 'has not succeeded yet'];
}

function loopItem(loop: Loop, now: number): HTMLElement {
  const [tone, text] = loopText(loop, now);
  const counted = `${plural(loop.runs, 'run')}, ${plural(loop.failures, 'failure')}`;
  return el(
    'li',
    {},
    sign(tone),
    el('b', {}, loop.name),
    el('span', {}, text),
    el('span', { class: 'faint' }, counted),
  );
}

/** @param now the node's clock */
function factsOf(status: StatusEvent, now: number): Fact[] {
  const { agent, lease, network, proxy, addresses, peers, repairs, versions } = status;
  const facts: (Fact | undefined)[] = [
    ['Agent', agent.answers ? `answers, ${versions.agent ?? ''}` : (agent.why ?? 'away')],
    lease === undefined
      ? ['Lease', 'none']
      : [
          'Lease',
          `${lease.subnets.join(', ')}${lease.expires === undefined ? '' : `, ends ${lease.expires.slice(0, 16).replace('T', ' ')} UTC unless renewed`}`,
        ],
    lease && [
      'Source of leases',
      `${lease.source}, ${lease.sourceConnected ? 'followed' : 'not followed now'}`,
    ],
    network && ['Pod network', `${network.networks.join(', ')} over ${network.backend}`],
    network && [
      'Interface',
      `${network.interface} (${network.addresses.join(', ')}): ${network.interfaceWhy}`,
    ],
    network && ['MTU', `${network.podMtu ?? 'not known yet'} for pods: ${network.mtuWhy}`],
    ['Mesh', status.mesh],
    [
      'Pod addresses',
      addresses.map(({ family, used, size }) => `${used} of ${size} ${family}`).join(', ') || 'not known',
    ],
    proxy === undefined
      ? ['Proxy', 'none of Twill runs here']
      : [
          'Proxy',
          `${proxy.answers ? 'answers' : (proxy.why ?? 'away')}; mode ${proxy.mode}, ${plural(proxy.services, 'Service')} from ${proxy.source}`,
        ],
    peers.skipped.length > 0
      ? [
          'Leases skipped',
          ...peers.skipped.map(({ name, reason }) => el('span', { class: 'line' }, `${name}: ${reason}`)),
        ]
      : undefined,
    ['Put right so far', counts(repairs)],
    ['Not right now', counts(status.drift)],
    [
      'Versions',
      `twill ${versions.twill}, kernel ${versions.kernel}, node ${versions.node}, iptables ${versions.iptables ?? 'missing'}, nft ${versions.nft ?? 'missing'}`,
    ],
    agent.at === undefined || agent.answers ? undefined : ['As of', `${age(now - Date.parse(agent.at))} ago`],
  ];
  return facts.filter((fact) => fact !== undefined);
}

export function showFacts(status: StatusEvent, now: number): void {
  const facts = factsOf(status, now);
  const key = facts.map((fact) => fact.map((part) => (part instanceof Node ? part.textContent : part)));
  fill(at('facts-list'), key, () => [
    el('dl', {}, ...facts.flatMap(([name, ...what]) => [el('dt', {}, name), el('dd', {}, ...what)])),
  ]);
  const loops = [...status.agent.loops, ...(status.proxy?.loops ?? [])];
  fill(at('loops'), [loops, now], () => [
    loops.length > 0 &&
      el('ul', { class: 'loops', 'aria-label': 'Loops' }, ...loops.map((loop) => loopItem(loop, now))),
  ]);
  say(at('foot'), `Twill ${versions(status)}. Shown as of ${clock(Date.now())} by this browser’s clock.`);
}

const versions = ({ versions: { twill } }: StatusEvent): string => twill;
