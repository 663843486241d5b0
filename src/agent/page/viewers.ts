import type { ServerResponse } from 'node:http';
import { MOST_TEXT } from '../../inspect/page/plan/changes.ts';
import { eventText } from '../../inspect/page/plan/view.ts';
import { isoTime } from '../../process/clock.ts';
import { guarded } from '../../process/guarded.ts';
import type { Log } from '../../process/log.ts';

/** Pages that look at a time. */
const MOST_VIEWERS = 16;
/** Characters that wait for one of them: more than all there is at its longest. Who reads no faster starts anew. */
const MOST_WAITING = 3 * MOST_TEXT;
const BEAT_MS = 5000;
/** Milliseconds after which a page whose connection is gone comes again. */
const RETRY = 'retry: 2000\n\n';

export interface ViewersOptions {
  readonly log: Log;
  /** There is one more, which knows nothing yet. @returns whether all there is will be said once more for it */
  readonly came: () => boolean;
  /** There is none any more. */
  readonly allGone: () => void;
}

/** The pages that look: each is told the same. */
export class Viewers {
  private readonly options: ViewersOptions;
  /** In the order in which they came. */
  private readonly open = new Set<ServerResponse>();
  /** Those for which all there is will be said. */
  private readonly fresh = new Set<ServerResponse>();
  private timer: NodeJS.Timeout | undefined;

  constructor(options: ViewersOptions) {
    this.options = options;
  }

  get count(): number {
    return this.open.size;
  }

  /** Who comes anew goes before: strangers who only hold connections must not keep an operator out. */
  add(response: ServerResponse, headers: Readonly<Record<string, string>>): void {
    response.writeHead(200, { ...headers, 'content-type': 'text/event-stream' });
    this.open.add(response);
    response.once('close', () => this.gone(response));
    const [oldest] = this.open;
    if (this.open.size > MOST_VIEWERS && oldest !== undefined) {
      this.open.delete(oldest);
      this.fresh.delete(oldest);
      oldest.end(eventText('replaced', {}));
    }
    response.write(RETRY + this.beat());
    this.timer ??= setInterval(
      guarded(this.options.log, 'telling the pages that the agent lives', () => this.tell(this.beat())),
      BEAT_MS,
    );
    if (this.options.came()) this.fresh.add(response);
  }

  /** @param text whole events */
  tell(text: string): void {
    this.write(this.open, text);
  }

  /** Tells those alone that have come since this was called last. @param text all there is */
  tellNew(text: string): void {
    this.write(this.fresh, text);
    this.fresh.clear();
  }

  close(): void {
    for (const response of this.open) response.end();
  }

  private write(to: ReadonlySet<ServerResponse>, text: string): void {
    for (const response of to) {
      response.write(text);
      if (response.writableLength > MOST_WAITING) response.destroy();
    }
  }

  private beat(): string {
    return eventText('beat', { at: isoTime() });
  }

  private gone(response: ServerResponse): void {
    this.open.delete(response);
    this.fresh.delete(response);
    if (this.open.size > 0) return;
    clearInterval(this.timer);
    this.timer = undefined;
    this.options.allGone();
  }
}
