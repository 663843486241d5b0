// Answers what `twill trace` is asked, without a process per question: one line of JSON each way.
import { createInterface } from 'node:readline';
import { type TraceFlags, tracePacket } from '../../src/inspect/trace/trace.ts';
import { describeError } from '../../src/model/error.ts';

process.stdout.on('error', () => {});
createInterface({ input: process.stdin }).on('line', async (line) => {
  const { from, to, flags } = JSON.parse(line) as { from: string; to: string; flags: TraceFlags };
  const reply = await tracePacket(from, to, flags).then(
    (answer) => ({ answer }),
    (error: unknown) => ({ error: describeError(error) }),
  );
  process.stdout.write(`${JSON.stringify(reply)}\n`);
});
