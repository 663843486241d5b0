import type { ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { ApiCommand } from './kube-api-process.ts';
import type { Namespace } from './namespace.ts';

/** A KubeApi in a namespace of the lab; it ends with the namespace. */
export class NamespacedKubeApi {
  readonly url: string;
  private readonly child: ChildProcess;
  private readonly lines: AsyncIterator<string>;

  private constructor(url: string, child: ChildProcess, lines: AsyncIterator<string>) {
    this.url = url;
    this.child = child;
    this.lines = lines;
  }

  static async start(namespace: Namespace, host = '127.0.0.1'): Promise<NamespacedKubeApi> {
    const script = join(import.meta.dirname, 'kube-api-process.js');
    const child = namespace.spawn(process.execPath, [script, host], {
      detached: true,
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    child.stdin!.on('error', () => {});
    const lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
    const first = await lines.next();
    return new NamespacedKubeApi(String(first.value), child, lines);
  }

  send(command: ApiCommand): void {
    this.child.stdin!.write(`${JSON.stringify(command)}\n`);
  }

  /** Churns as {@link ApiCommand} says and resolves when all was sent. @returns the number of changes */
  async churn(command: Extract<ApiCommand, { churn: unknown }>): Promise<number> {
    this.send(command);
    return Number(String((await this.lines.next()).value).split(' ')[1]);
  }
}
