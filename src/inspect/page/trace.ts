import { describeError } from '../../model/error.ts';
import { type TraceFlags, tracePacket } from '../trace/trace.ts';
import { traceView } from './plan/trace-view.ts';
import type { TraceReply } from './plan/view.ts';

/** A trace as the page asks for one: nothing is ever sent for it. */
export async function tracePage(
  from: string,
  to: string,
  flags: Omit<TraceFlags, 'probe'>,
): Promise<TraceReply> {
  try {
    return { trace: traceView(await tracePacket(from, to, { ...flags, probe: false })) };
  } catch (error) {
    return { error: describeError(error) };
  }
}
