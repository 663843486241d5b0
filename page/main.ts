import type { Part, PodsEvent, StatusEvent } from '../src/inspect/page/plan/view.ts';
import { age, at, clock, el, fill, say, sign, type Tone } from './dom.ts';
import { showFacts } from './facts.ts';
import { showDrift, showPods, showProblems } from './lists.ts';
import { Nodes } from './nodes.ts';
import { Services } from './services.ts';
import { Stream } from './stream.ts';
import { Trace } from './trace.ts';

/** A look that comes so much later than was said is late. */
const PATIENCE_MS = 20_000;

const verdictTones = { healthy: 'good', degraded: 'poor', down: 'bad' } as const;
const titleSigns = { healthy: '✓', degraded: '▲', down: '✕' } as const;
const sections = [
  ['wrong', 'What is wrong'],
  ['nodes', 'Nodes'],
  ['trace', 'Trace'],
  ['pods', 'Pods'],
  ['services', 'Services'],
  ['drift', 'Drift'],
  ['facts', 'This node'],
] as const;

const nodes = new Nodes();
const trace = new Trace();
let status: StatusEvent | undefined;
let pods: PodsEvent | undefined;
/** When the last look was over, by this browser's clock, and when the next one should be. */
let looked: { readonly at: number; readonly due: number } | undefined;
let stalled: string | undefined;
let isReplaced = false;

/** The node's clock. */
const now = (): number => Date.now() + stream.skew;

const tracer = (end: 'from' | 'to', name: string): void => trace.start(end, name);
const services = new Services(tracer);

function showVerdict(): void {
  if (status === undefined) return;
  const tone: Tone = verdictTones[status.verdict];
  at('verdict').dataset.tone = tone;
  fill(at('verdict-sign'), tone, () => [sign(tone)]);
  say(at('verdict-text'), status.summary);
  const { network, lease, peers } = status;
  const parts = [
    ...(lease === undefined ? ['no lease'] : [`pods ${lease.subnets.join(', ')}`]),
    ...(network === undefined ? [] : [network.backend.split(',')[0]!, `by ${network.interface}`]),
    `${peers.count} other nodes`,
  ];
  say(at('verdict-more'), parts.join(' · '));
  say(at('node'), status.node);
  document.title = `${titleSigns[status.verdict]} ${status.node} · Twill`;
}

function showAlarm(text: string | undefined): void {
  const alarm = at('alarm');
  alarm.hidden = text === undefined;
  say(alarm, text ?? '');
}

/** Whether what is shown is of now, said once a second. */
function showLife(): void {
  const live = at('live');
  const { heardAt } = stream;
  document.body.classList.toggle('gone', stream.isGone || isReplaced);
  if (isReplaced) {
    showAlarm(
      'Another page took this one’s place: more look at a time than the agent serves. Load it again to look on.',
    );
    say(live, 'ended');
  } else if (stream.isGone) {
    // What is read out does not change each second.
    const since = heardAt === undefined ? '' : ` since ${clock(heardAt)}`;
    const old =
      status === undefined ? '' : ' What is shown is of then. Traffic goes on by what stands in the kernel.';
    showAlarm(`No word from the agent${since}.${old} Trying again…`);
    if (status !== undefined) document.title = `? ${status.node} · Twill`;
    say(live, heardAt === undefined ? 'agent gone' : `agent gone for ${age(Date.now() - heardAt)}`);
  } else if (stalled !== undefined) {
    showAlarm(`Nobody looks at the node now: ${stalled}. Started again; what is shown is old.`);
    say(live, 'stalled');
  } else if (looked !== undefined && Date.now() > looked.due + PATIENCE_MS) {
    showAlarm(
      `The last look was over at ${clock(looked.at)}, and the next one is late: what is shown is old.`,
    );
    say(live, `looked ${age(Date.now() - looked.at)} ago`);
  } else {
    showAlarm(undefined);
    say(live, looked === undefined ? 'looking…' : `live, looked ${age(Date.now() - looked.at)} ago`);
  }
}

function offer(): void {
  trace.offer(pods, services.targets, status?.node ?? 'node');
}

function showUnknown(part: Part, why: string): void {
  if (part === 'nodes') {
    nodes.unknown(why);
    return;
  }
  const place = { status: 'problems', pods: 'pods-list', services: 'services-list', drift: 'drift-list' }[
    part
  ];
  // What was known is not shown as if it were so still.
  if (part === 'status') {
    at('verdict').dataset.tone = 'none';
    fill(at('verdict-sign'), 'none', () => [sign('none')]);
    say(at('verdict-text'), 'How this node does is not known now');
    document.title = '? Twill';
  }
  if (part === 'pods') pods = undefined;
  if (part === 'services') services.forget();
  fill(at(place), why, () => [el('p', { class: 'old' }, sign('note'), `Not known now: ${why}`)]);
}

const stream = new Stream({
  status: (event) => {
    status = event;
    stalled = undefined;
    showVerdict();
    showProblems(event);
    showFacts(event, now());
    nodes.name(event.node);
    showLife();
  },
  nodes: (event) => nodes.take(event),
  pods: (event) => {
    pods = event;
    showPods(event, tracer, now());
    offer();
  },
  services: (event) => {
    services.take(event);
    offer();
  },
  drift: showDrift,
  unknown: ({ part, why }) => showUnknown(part, why),
  looked: ({ tookMs, nextMs }) => {
    looked = { at: Date.now(), due: Date.now() + nextMs + 3 * tookMs };
    if (pods !== undefined) showPods(pods, tracer, now());
    showLife();
  },
  beat: () => showLife(),
  stalled: ({ why }) => {
    stalled = why;
    showLife();
  },
  replaced: () => {
    isReplaced = true;
    showLife();
  },
});

at('nav').append(
  el('ul', {}, ...sections.map(([id, name]) => el('li', {}, el('a', { href: `#${id}` }, name)))),
);
fill(at('verdict-sign'), 'none', () => [sign('none')]);
stream.open();
setInterval(() => {
  stream.check();
  showLife();
}, 1000);
