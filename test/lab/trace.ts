import type { TraceAnswer } from '../../src/inspect/trace/plan/answer.ts';
import { twillProgram } from './files.ts';
import type { LabNode } from './node.ts';

export interface Traced {
  readonly status: number;
  readonly answer: TraceAnswer;
}

const sockets = (node: LabNode): string[] => ['--socket', node.cniSocket, '--proxy-socket', node.proxySocket];

/** `twill trace FROM TO …` on a node, as JSON. @throws Error with what it said when it gave no answer */
export async function trace(node: LabNode, ...args: readonly string[]): Promise<Traced> {
  const all = [twillProgram, 'trace', ...args, ...sockets(node), '-o', 'json'];
  const { status, stdout, stderr } = await node.namespace.run(process.execPath, all);
  if (stdout === '') throw new Error(`twill trace ${args.join(' ')} has status ${status}: ${stderr}`);
  return { status, answer: JSON.parse(stdout) as TraceAnswer };
}

/** The same for people. */
export async function traceText(node: LabNode, ...args: readonly string[]): Promise<string> {
  const all = [twillProgram, 'trace', ...args, ...sockets(node)];
  const { stdout, stderr } = await node.namespace.run(process.execPath, all);
  return stdout + stderr;
}

/** Where it ends, by every way: `ADDRESS:PORT`, with ` masqueraded` behind it, or `died: REASON`; sorted. */
export function endings({ ways }: TraceAnswer): string[] {
  const all = ways.map(({ result, reason, packet, masqueraded, back }) => {
    if (result === 'died') return `died: ${reason}`;
    const lost = back.find((part) => part.result === 'died');
    if (lost !== undefined) return `answer died: ${lost.reason}`;
    return `${packet.destination}:${packet.port}${masqueraded ? ' masqueraded' : ''}`;
  });
  return [...new Set(all)].sort();
}
