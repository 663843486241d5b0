import type { ServerResponse } from 'node:http';
import { eventText } from '../../inspect/page/plan/view.ts';
import { isoTime } from '../../process/clock.ts';
import { guarded } from '../../process/guarded.ts';
import type { Log } from '../../process/log.ts';

/** Pages that look at a time. */
const MOST_VIEWERS = 16;
/** Bytes that wait for one of them: five times what 5,000 nodes are. Who reads no faster starts anew. */
const MOST_WAITING = 2_000_000;
const BEAT_MS = 5000;
/** Milliseconds after which a page whose connection is gone comes again. */
const RETRY = 'retry: 2000\n\n';

export interface ViewersOptions {
  readonly log: Log;
  /** There is one more, which knows nothing yet. */
  readonly came: () => void;
  /** There is none any more. */
  readonly allGone: () => void;
}

/** The pages that look: each is told the same. */
export class Viewers {
  private readonly options: ViewersOptions;
  /** In the order in which they came. */
  private readonly open = new Set<ServerResponse>();
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
      oldest.end(eventText('replaced', {}));
    }
    response.write(RETRY + this.beat());
    this.timer ??= setInterval(
      guarded(this.options.log, 'telling the pages that the agent lives', () => this.tell(this.beat())),
      BEAT_MS,
    );
    this.options.came();
  }

  /** @param text whole events */
  tell(text: string): void {
    for (const response of this.open) {
      response.write(text);
      if (response.writableLength > MOST_WAITING) response.destroy();
    }
  }

  close(): void {
    for (const response of this.open) response.end();
  }

  private beat(): string {
    return eventText('beat', { at: isoTime() });
  }

  private gone(response: ServerResponse): void {
    this.open.delete(response);
    if (this.open.size > 0) return;
    clearInterval(this.timer);
    this.timer = undefined;
    this.options.allGone();
  }
}
