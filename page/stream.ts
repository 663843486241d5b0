import type { EventName, PageEvents } from '../src/inspect/page/plan/view.ts';

/** Beats come every five seconds: an agent that says nothing for longer is gone, or stopped. */
const SILENCE_MS = 12_000;
const RETRY_MS = 3000;

type Hearers = { readonly [N in EventName]: (data: PageEvents[N]) => void };

const names: readonly EventName[] = [
  'status',
  'nodes',
  'pods',
  'services',
  'drift',
  'unknown',
  'looked',
  'beat',
  'stalled',
  'replaced',
];

/** Listens to the agent, and begins anew when that has gone. */
export class Stream {
  private readonly hearers: Hearers;
  private source: EventSource | undefined;
  private opened = 0;
  private isOver = false;
  /** When the agent was heard last, by this browser's clock; undefined before the first time. */
  heardAt: number | undefined;
  /** How far the node's clock is before this browser's, in milliseconds. */
  skew = 0;

  constructor(hearers: Hearers) {
    this.hearers = hearers;
  }

  open(): void {
    this.source?.close();
    this.opened = Date.now();
    const source = new EventSource('events');
    this.source = source;
    for (const name of names)
      source.addEventListener(name, (event) => {
        if (this.source === source) this.heard(name, JSON.parse((event as MessageEvent<string>).data));
      });
    source.addEventListener('error', () => {
      if (source.readyState === EventSource.CLOSED && this.source === source) this.source = undefined;
    });
  }

  get isGone(): boolean {
    return this.isOver || Date.now() - (this.heardAt ?? this.opened) > SILENCE_MS || !this.isOpen;
  }

  private get isOpen(): boolean {
    return this.source?.readyState === EventSource.OPEN || this.heardAt === undefined;
  }

  /** To be called every second. */
  check(): void {
    if (this.isOver) return;
    const silence = Date.now() - Math.max(this.heardAt ?? 0, this.opened);
    if ((this.source === undefined && Date.now() - this.opened > RETRY_MS) || silence > SILENCE_MS)
      this.open();
  }

  private heard<N extends EventName>(name: N, data: PageEvents[N]): void {
    this.heardAt = Date.now();
    if (name === 'beat') this.skew = Date.parse((data as PageEvents['beat']).at) - Date.now();
    if (name === 'replaced') {
      this.isOver = true;
      this.source?.close();
    }
    this.hearers[name](data);
  }
}
