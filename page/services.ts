import type { ServicesEvent, ServiceView } from '../src/inspect/page/plan/view.ts';
import { at, el, empty, fill, plural, say, sign } from './dom.ts';
import { type Column, lines, type Tracer, table, traceButton } from './lists.ts';
import { Rows } from './rows.ts';

/** Rows of the table; the field above finds the others. */
const MOST_SHOWN = 100;
/** Ports of Services that the form of a trace offers. */
const MOST_OFFERED = 300;

function columns(tracer: Tracer): Column<ServiceView>[] {
  return [
    {
      name: 'Service',
      cell: ([name, , , , , , trouble]) => [
        trouble === '' ? sign('good', 'well') : sign('poor', 'troubled'),
        el('b', {}, name),
        trouble !== '' && el('span', { class: 'line trouble poor' }, trouble),
      ],
    },
    { name: 'Type', cell: ([, type]) => [type] },
    { name: 'Addresses', cell: ([, , clusterIPs, others]) => lines([...clusterIPs, ...others]) },
    {
      name: 'Ports',
      cell: ([, , , , ports, , , morePorts]) =>
        lines([
          ...ports.map(
            ([name, port, nodePort, protocol]) =>
              `${name === '' ? '' : `${name} `}${port}${nodePort === 0 ? '' : `:${nodePort}`}/${protocol.toLowerCase()}`,
          ),
          ...(morePorts > 0 ? [`and ${morePorts} more`] : []),
        ]),
    },
    {
      name: 'Endpoints',
      cell: ([, , , , , [ready, local, terminating, notReady]]) => [
        [
          `${ready} ready`,
          ...(local > 0 ? [`${local} here`] : []),
          ...(terminating > 0 ? [`${terminating} terminating`] : []),
          ...(notReady > 0 ? [`${notReady} not ready`] : []),
        ].join(', '),
      ],
    },
    {
      name: '',
      cell: ([name, , clusterIPs, , ports]) => [
        clusterIPs.length > 0 &&
          traceButton(tracer, 'to', ports[0] === undefined ? name : `${name}:${ports[0][1]}`),
      ],
    },
  ];
}

const isTroubled = ([, , , , , , trouble]: ServiceView): boolean => trouble !== '';

/** Those that are troubled come first. */
function byTrouble(a: ServiceView, b: ServiceView): number {
  return Number(isTroubled(b)) - Number(isTroubled(a)) || (a[0] < b[0] ? -1 : 1);
}

/** The section of the Services. */
export class Services {
  private readonly rows = new Rows<ServiceView>();
  private readonly find = at<HTMLInputElement>('services-find');
  private readonly form = at('services-form');
  private readonly tracer: Tracer;
  private sorted: readonly ServiceView[] = [];
  private away: string | undefined;

  constructor(tracer: Tracer) {
    this.tracer = tracer;
    this.find.addEventListener('input', () => this.show());
    this.form.addEventListener('submit', (event) => event.preventDefault());
    this.form.hidden = true;
  }

  take(event: ServicesEvent): void {
    if (!this.rows.take(event)) return;
    this.away = event.away;
    this.sorted = this.rows.all.sort(byTrouble);
    this.show();
  }

  /** What was known is not shown as if it were so still. */
  forget(): void {
    this.rows.forget();
    this.sorted = [];
  }

  /** What a trace may lead to. */
  get targets(): string[] {
    return this.sorted
      .filter(([, , clusterIPs]) => clusterIPs.length > 0)
      .flatMap(([name, , , , ports]) => ports.map(([, port]) => `${name}:${port}`))
      .slice(0, MOST_OFFERED);
  }

  private show(): void {
    if (!this.rows.isKnown) return;
    const { sorted, away, tracer } = this;
    const { more } = this.rows;
    say(at('services-count'), (sorted.length + more).toLocaleString('en'));
    this.form.hidden = sorted.length < 8;
    const text = this.find.value.trim().toLowerCase();
    const fitting = sorted.filter(([name, , clusterIPs, others]) =>
      [name, ...clusterIPs, ...others].some((one) => one.toLowerCase().includes(text)),
    );
    const shown = fitting.slice(0, MOST_SHOWN);
    fill(at('services-list'), [shown, fitting.length, more, away], () => [
      away !== undefined && el('p', { class: 'old' }, sign('poor'), `${away}: from its source.`),
      sorted.length === 0
        ? empty('The proxy has no Services.')
        : fitting.length === 0
          ? empty('No Service is like that.')
          : table(columns(tracer), shown, isTroubled),
      fitting.length > shown.length &&
        empty(`and ${plural(fitting.length - shown.length, 'more')}: write some of the name above`),
      more > 0 && empty(`${plural(more, 'Service')} more than a page has room for: twill services`),
    ]);
  }
}
