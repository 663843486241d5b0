import type { DriftEvent, PodsEvent, PodView, StatusEvent } from '../src/inspect/page/plan/view.ts';
import { age, at, type Child, command, el, empty, fill, plural, say, sign, type Tone } from './dom.ts';

const severityTones: Readonly<Record<string, Tone>> = { down: 'bad', degraded: 'poor', note: 'note' };

/** What is wrong: the first thing that is read after the verdict. */
export function showProblems({ problems, more }: StatusEvent): void {
  const isWrong = problems.some(({ severity }) => severity !== 'note');
  say(
    at('wrong-title'),
    isWrong ? 'What is wrong' : problems.length > 0 ? 'Worth knowing' : 'Nothing is wrong',
  );
  fill(at('problems'), [problems, more], () => {
    if (problems.length === 0)
      return [el('p', { class: 'well' }, sign('good'), 'Nothing is known to be wrong.')];
    return [
      el(
        'ul',
        { class: 'problems' },
        ...problems.map(({ severity, area, what, show }) =>
          el(
            'li',
            { class: severityTones[severity] ?? 'note' },
            sign(severityTones[severity] ?? 'note'),
            el(
              'div',
              {},
              el('p', {}, el('b', {}, severity), ' ', el('span', { class: 'area' }, area), ' ', what),
              show !== undefined && command(show),
            ),
          ),
        ),
      ),
      more > 0 && empty(`and ${plural(more, 'more')}: twill status`),
    ];
  });
}

export interface Column<T> {
  readonly name: string;
  readonly cell: (item: T) => Child[];
}

/** A table that is a list of cards where there is no room for columns: each cell knows the name of its column. */
export function table<T>(
  columns: readonly Column<T>[],
  items: readonly T[],
  isTroubled: (item: T) => boolean,
): HTMLElement {
  const head = el('tr', {}, ...columns.map(({ name }) => el('th', { scope: 'col' }, name)));
  const rows = items.map((item) =>
    el(
      'tr',
      { class: isTroubled(item) ? 'bad' : '' },
      ...columns.map(({ name, cell }) => el('td', { 'data-name': name }, ...cell(item))),
    ),
  );
  return el('div', { class: 'scroll' }, el('table', {}, el('thead', {}, head), el('tbody', {}, ...rows)));
}

export type Tracer = (end: 'from' | 'to', name: string) => void;

export function traceButton(tracer: Tracer, end: 'from' | 'to', name: string): HTMLElement {
  const title = end === 'from' ? `Trace from ${name}` : `Trace to ${name}`;
  return el(
    'button',
    {
      type: 'button',
      class: 'small',
      'aria-label': title,
      'data-focus': title,
      click: () => tracer(end, name),
    },
    end === 'from' ? 'trace from' : 'trace to',
  );
}

export const lines = (texts: readonly string[]): Child[] =>
  texts.map((text) => el('span', { class: 'line' }, text));

const shortId = (container: string): string => container.slice(0, 13);

/** What a trace calls a pod. */
export const podTarget = ({ name, container }: PodView): string => name ?? container;

function podColumns(tracer: Tracer, now: number): Column<PodView>[] {
  return [
    {
      name: 'Pod',
      cell: ({ name, container, troubles }) => [
        troubles.length > 0 ? sign('bad', 'troubled') : sign('good', 'well'),
        el('b', {}, name ?? shortId(container)),
        ...troubles.map((text) => el('span', { class: 'line trouble' }, text)),
      ],
    },
    { name: 'Addresses', cell: ({ addresses }) => lines(addresses) },
    { name: 'Host veth', cell: ({ veth }) => [el('code', {}, veth)] },
    { name: 'Age', cell: ({ createdAt }) => [age(now - Date.parse(createdAt))] },
    {
      name: 'Notes',
      cell: ({ hostPorts, adopted, container, name }) => [
        ...lines([
          ...(hostPorts.length > 0 ? [`host ports ${hostPorts.join(', ')}`] : []),
          ...(adopted ? ['adopted'] : []),
          ...(name === undefined ? [] : [`container ${shortId(container)}`]),
        ]),
      ],
    },
    { name: '', cell: (pod) => [traceButton(tracer, 'from', podTarget(pod))] },
  ];
}

export function showPods({ pods, more, away }: PodsEvent, tracer: Tracer, now: number): void {
  say(at('pods-count'), (pods.length + more).toLocaleString('en'));
  // Ages go on.
  fill(at('pods-list'), [pods, more, away, Math.floor(now / 60_000)], () => [
    away !== undefined && el('p', { class: 'old' }, sign('poor'), `${away}: from its records.`),
    pods.length === 0
      ? empty('No pod is attached to this node.')
      : table(podColumns(tracer, now), pods, ({ troubles }) => troubles.length > 0),
    more > 0 && empty(`and ${plural(more, 'more')}: twill pods`),
  ]);
}

export function showDrift({ differences, more, unknown }: DriftEvent): void {
  say(at('drift-count'), String(differences.length + more));
  fill(at('drift-list'), [differences, more, unknown], () => [
    differences.length === 0 &&
      unknown.length === 0 &&
      el('p', { class: 'well' }, sign('good'), 'All is as it should be.'),
    differences.length > 0 &&
      el(
        'ul',
        { class: 'problems' },
        ...differences.map(({ kind, object, state, detail, show }) =>
          el(
            'li',
            { class: state === 'foreign' ? 'poor' : 'bad' },
            sign(state === 'foreign' ? 'poor' : 'bad'),
            el(
              'div',
              {},
              el(
                'p',
                {},
                el('b', {}, state),
                ' ',
                el('span', { class: 'area' }, kind),
                ' ',
                el('code', {}, object),
                ` ${detail}`,
              ),
              command(show),
            ),
          ),
        ),
      ),
    more > 0 && empty(`and ${plural(more, 'more')}: twill diff`),
    ...unknown.map((what) => el('p', { class: 'old' }, sign('note'), `not known: ${what}`)),
  ]);
}
