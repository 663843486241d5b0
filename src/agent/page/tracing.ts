import type { TraceReply } from '../../inspect/page/plan/view.ts';
import { run } from '../../kernel/process.ts';
import { describeError, TwillError } from '../../model/error.ts';
import { ownCommand } from '../../process/companion.ts';

/** Traces at a time: each reads all rules of the node. */
const MOST_TRACES = 2;
const TIMEOUT_MS = 15_000;
const LONGEST_NAME = 300;

/** What the form was filled in with. */
export interface TraceQuery {
  readonly from: string;
  readonly to: string;
  readonly protocol: string | undefined;
  readonly fromAddress: string | undefined;
}

/** @throws TwillError `invalid` naming what is wrong */
export function readTraceQuery(query: string): TraceQuery {
  const fields = new URLSearchParams(query);
  const field = (name: string): string | undefined => {
    const value = fields.get(name)?.trim() ?? '';
    if (value.length > LONGEST_NAME || /\p{Cc}/u.test(value))
      throw new TwillError('invalid', `'${name}' is no name of anything`);
    return value === '' ? undefined : value;
  };
  const [from, to, protocol] = [field('from'), field('to'), field('protocol')];
  if (from === undefined || to === undefined)
    throw new TwillError('invalid', 'say where the packet comes from, and where it goes to');
  if (protocol !== undefined && !['tcp', 'udp', 'sctp'].includes(protocol))
    throw new TwillError('invalid', `'${protocol}' is not tcp, udp or sctp`);
  return { from, to, protocol, fromAddress: field('from-address') };
}

/** Traces for the page, each in a process of its own that ends in time. */
export class Tracing {
  private readonly sockets: readonly string[];
  private running = 0;

  /** @param sockets flags that say where agent and proxy answer */
  constructor(sockets: readonly string[]) {
    this.sockets = sockets;
  }

  /** @param signal whoever asked is gone */
  async trace(
    query: string,
    signal: AbortSignal,
  ): Promise<{ readonly status: number; readonly reply: TraceReply }> {
    let asked: TraceQuery;
    try {
      asked = readTraceQuery(query);
    } catch (error) {
      return { status: 400, reply: { error: describeError(error) } };
    }
    if (this.running >= MOST_TRACES)
      return { status: 429, reply: { error: 'others are tracing already: try again in a moment' } };
    this.running++;
    try {
      return { status: 200, reply: await this.start(asked, signal) };
    } catch (error) {
      return { status: 500, reply: { error: describeError(error) } };
    } finally {
      this.running--;
    }
  }

  private async start(
    { from, to, protocol, fromAddress }: TraceQuery,
    signal: AbortSignal,
  ): Promise<TraceReply> {
    const flags = [
      ...this.sockets,
      ...(protocol === undefined ? [] : [`--protocol=${protocol}`]),
      ...(fromAddress === undefined ? [] : [`--from-address=${fromAddress}`]),
    ];
    // Whatever is written in the form is no flag.
    const args = ownCommand(['page-trace', ...flags, '--', from, to]);
    const { status, stdout, stderr } = await run(process.execPath, args, { timeoutMs: TIMEOUT_MS, signal });
    if (status !== 0)
      throw new TwillError('internal', stderr.trim() || `the trace ended with status ${status}`);
    return JSON.parse(stdout) as TraceReply;
  }
}
