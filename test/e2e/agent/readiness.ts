import { setTimeout as sleep } from 'node:timers/promises';
import type { LabNode } from '../../lab/node.ts';

/** Flags that make an agent serve what {@link readyz} and {@link metrics} ask for. */
export const healthFlags = [
  '--healthz-ip=127.0.0.1',
  '--healthz-port=9099',
  '--metrics-bind-address=127.0.0.1:9098',
];

/** @returns the status, and with it before it the body */
async function get(node: LabNode, url: string): Promise<{ status: number; text: string }> {
  const script = `fetch('${url}').then(async (r) => console.log(r.status, await r.text()))`;
  const text = await node.exec(process.execPath, ['-e', script]);
  return { status: Number(text.slice(0, 3)), text };
}

/** What a loop says before its first turn, or the rules' where the overlay stands already. */
const early =
  /: has not succeeded yet$|^\[\+\] overlay: [\s\S]*: not started: the overlay does not stand yet$/m;

/** What the node's agent answers to /readyz once all its loops had their first turn; the text begins with the status. */
export async function readyz(node: LabNode): Promise<{ status: number; text: string }> {
  // Pods can be wired before: an agent that is "ready" to the lab may still be looking for iptables.
  for (let again = 0; ; again++) {
    const answer = await get(node, 'http://127.0.0.1:9099/readyz');
    if (again === 50 || !early.test(answer.text)) return answer;
    await sleep(100);
  }
}

/** The metrics of the node's agent, or of what serves them at another port, from the second line on. */
export async function metrics(node: LabNode, port = 9098): Promise<string> {
  const { text } = await get(node, `http://127.0.0.1:${port}/metrics`);
  return text.slice(text.indexOf('\n') + 1);
}

/** How often the node's agent has said it. */
export function said(node: LabNode, pattern: RegExp): number {
  return node.agent?.log().match(new RegExp(pattern, 'g'))?.length ?? 0;
}
