import type { ChildProcess } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Namespace } from './namespace.ts';
import type { Answer, ProbeReply, ProbeRequest, StreamResult, Target } from './probe-protocol.ts';

/** A stream of requests under way; see {@link Probe.stream}. */
export interface Stream {
  /** Ends it, waits for the answers under way and says what became of it. */
  end(): Promise<StreamResult>;
}

/** One small process inside a namespace that serves TCP and UDP and sends requests, without a process per request. */
export class Probe {
  private readonly child: ChildProcess;
  private readonly pending = new Map<
    number,
    { resolve: (value: unknown) => void; reject: (error: Error) => void }
  >();
  private lastId = 0;

  constructor(namespace: Namespace) {
    const script = join(import.meta.dirname, 'probe-process.js');
    // Not this process's standard error: a probe that is left standing would keep it open.
    const log = openSync(join(namespace.directory, 'probes.log'), 'a');
    this.child = namespace.spawn(process.execPath, ['--max-old-space-size=64', script], {
      detached: true,
      stdio: ['pipe', 'pipe', log],
    });
    closeSync(log);
    this.child.on('error', (error) => this.fail(error));
    this.child.on('exit', () => this.fail(new Error(`the probe in ${namespace.name} ended`)));
    this.child.stdin!.on('error', () => {});
    createInterface({ input: this.child.stdout! }).on('line', (line) => {
      const reply = JSON.parse(line) as ProbeReply;
      const waiting = this.pending.get(reply.id);
      this.pending.delete(reply.id);
      if ('error' in reply) waiting?.reject(new Error(reply.error));
      else waiting?.resolve(reply.value);
    });
  }

  /** Answers every line (TCP) and datagram (UDP) on a port with `name` and the address it came from. */
  async listen(port: number, name: string): Promise<void> {
    await this.request({ kind: 'listen', port, name });
  }

  /** Sends one request. @throws Error with the reason when no answer came */
  async ask(target: Target): Promise<Answer> {
    return (await this.request({ kind: 'ask', ...target })) as Answer;
  }

  /** Sends a request every `intervalMs` over one connection (one UDP port); resolves after the first answer. */
  async stream(target: Target & { readonly intervalMs: number }): Promise<Stream> {
    const stream = (await this.request({ kind: 'stream', ...target })) as number;
    return { end: async () => (await this.request({ kind: 'end-stream', stream })) as StreamResult };
  }

  /** Takes whatever is sent to a TCP port. */
  async sink(port: number): Promise<void> {
    await this.request({ kind: 'sink', port });
  }

  /** Sends to a sink as fast as it can. @returns megabits per second that arrived */
  async flood(address: string, port: number, milliseconds: number): Promise<number> {
    return (await this.request({ kind: 'flood', address, port, milliseconds })) as number;
  }

  private request(request: ProbeRequest): Promise<unknown> {
    const id = ++this.lastId;
    return new Promise((resolve, reject) => {
      this.pending.set(id, { resolve, reject });
      this.child.stdin!.write(`${JSON.stringify({ id, ...request })}\n`);
    });
  }

  private fail(error: Error): void {
    for (const { reject } of this.pending.values()) reject(error);
    this.pending.clear();
  }
}
