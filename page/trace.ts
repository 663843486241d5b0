import type {
  PodsEvent,
  TraceEnding,
  TraceReply,
  TraceStep,
  TraceView,
} from '../src/inspect/page/plan/view.ts';
import { at, el, empty, plural, sign, type Tone } from './dom.ts';
import { podTarget } from './lists.ts';

/** The agent ends a trace after fifteen seconds. */
const TIMEOUT_MS = 20_000;

const tones: Readonly<Record<TraceView['verdict'], Tone>> = {
  delivered: 'good',
  dies: 'bad',
  unknown: 'poor',
};

/** Steps that follow each other in one place stand below its name. */
function steps(all: readonly TraceStep[]): HTMLElement | undefined {
  if (all.length === 0) return undefined;
  const list = el('ol', { class: 'steps' });
  let last: string | undefined;
  for (const [where, label, text] of all) {
    if (where !== last) list.append(el('li', { class: 'where' }, where));
    last = where;
    list.append(el('li', {}, el('span', { class: 'label' }, label), el('code', {}, text)));
  }
  return list;
}

function endLine({ tone, text, advice }: TraceEnding): HTMLElement {
  return el(
    'p',
    { class: `end ${tone}` },
    sign(tone),
    el(
      'span',
      {},
      el('b', {}, text),
      advice !== undefined && el('span', { class: 'line' }, `try: ${advice}`),
    ),
  );
}

const conditions = (all: readonly string[]): HTMLElement[] =>
  all.map((text) => el('p', { class: 'old' }, sign('poor'), text));

function way(one: TraceView['ways'][number], isOnly: boolean): HTMLElement {
  const { share, back } = one;
  const answers = back.map((part) =>
    el(
      'details',
      { open: part.tone === 'bad' },
      el('summary', {}, part.tone === 'bad' ? 'The answer dies' : 'The answer comes back'),
      ...conditions(part.conditions),
      steps(part.steps) ?? '',
      endLine(part),
    ),
  );
  return el(
    'div',
    { class: 'way' },
    !isOnly && el('h4', {}, `${share} of connections`),
    ...conditions(one.conditions),
    steps(one.steps),
    endLine(one),
    ...answers,
  );
}

function show(view: TraceView): HTMLElement[] {
  const tone = tones[view.verdict];
  return [
    el('h3', { class: `answer ${tone}`, tabindex: '-1' }, sign(tone), view.summary),
    el('p', { class: 'route' }, view.title.replace('->', '→')),
    ...view.notes.map((note) => el('p', { class: 'old' }, sign('note'), note)),
    ...[steps(view.common)].filter((part) => part !== undefined),
    ...view.ways.map((one) => way(one, view.ways.length === 1)),
    ...(view.moreWays > 0 ? [empty(`and ${plural(view.moreWays, 'more way')}: twill trace`)] : []),
    ...(view.cut ? [empty('Some steps are left out: twill trace has them all.')] : []),
  ];
}

/** The form, and what it is answered. */
export class Trace {
  private readonly form = at<HTMLFormElement>('trace-form');
  private readonly result = at('trace-result');
  private readonly go = at<HTMLButtonElement>('trace-go');
  private running: AbortController | undefined;

  constructor() {
    this.form.addEventListener('submit', (event) => {
      event.preventDefault();
      if (this.running === undefined) void this.ask();
      else this.running.abort();
    });
  }

  /** Fills in one end, and goes on to the other. */
  start(end: 'from' | 'to', name: string): void {
    at<HTMLInputElement>(`trace-${end}`).value = name;
    const other = at<HTMLInputElement>(end === 'from' ? 'trace-to' : 'trace-from');
    this.form.scrollIntoView({ block: 'center' });
    other.focus({ preventScroll: true });
  }

  /** What can be chosen for both ends. */
  offer(pods: PodsEvent | undefined, served: readonly string[], node: string): void {
    const names = (pods?.pods ?? []).map(podTarget);
    const options = (all: readonly string[]) => [...new Set(all)].map((value) => el('option', { value }));
    at('froms').replaceChildren(...options([...names, node, 'outside']));
    at('tos').replaceChildren(...options([...served, ...names, 'outside']));
  }

  private async ask(): Promise<void> {
    const running = new AbortController();
    this.running = running;
    const timer = setTimeout(() => running.abort(), TIMEOUT_MS);
    this.go.textContent = 'Stop';
    this.result.replaceChildren(el('p', { class: 'busy' }, 'Walking…'));
    this.result.setAttribute('aria-busy', 'true');
    const query = new URLSearchParams();
    for (const [name, value] of new FormData(this.form)) if (value !== '') query.set(name, String(value));
    try {
      const response = await fetch(`trace?${query}`, { signal: running.signal });
      const reply = (await response.json()) as TraceReply;
      if ('error' in reply) this.fail(reply.error);
      else this.result.replaceChildren(...show(reply.trace));
    } catch {
      this.fail(running.signal.aborted ? 'stopped before there was an answer' : 'the agent does not answer');
    }
    clearTimeout(timer);
    this.running = undefined;
    this.go.textContent = 'Trace';
    this.result.removeAttribute('aria-busy');
  }

  private fail(why: string): void {
    this.result.replaceChildren(el('p', { class: 'end bad' }, sign('bad'), el('span', {}, why)));
  }
}
