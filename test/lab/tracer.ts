import type { ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { TraceAnswer } from '../../src/inspect/trace/plan/answer.ts';
import type { LabNode } from './node.ts';

/** Asks `twill trace` many things on a node: one process answers all, one after the other. */
export class Tracer {
  private readonly child: ChildProcess;
  private readonly lines: AsyncIterator<string>;
  private readonly node: LabNode;

  constructor(node: LabNode) {
    this.node = node;
    const script = join(import.meta.dirname, 'trace-process.js');
    this.child = node.namespace.spawn(process.execPath, [script], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.lines = createInterface({ input: this.child.stdout! })[Symbol.asyncIterator]();
  }

  /** @throws Error with what it said when it gave no answer */
  async trace(from: string, to: string, protocol: 'tcp' | 'udp'): Promise<TraceAnswer> {
    const flags = { socket: this.node.cniSocket, proxySocket: this.node.proxySocket, protocol };
    this.child.stdin!.write(`${JSON.stringify({ from, to, flags })}\n`);
    const { value, done } = await this.lines.next();
    if (done === true) throw new Error('the tracer has ended');
    const reply = JSON.parse(value) as { answer?: TraceAnswer; error?: string };
    if (reply.answer === undefined) throw new Error(`trace ${from} ${to}: ${reply.error}`);
    return reply.answer;
  }
}
