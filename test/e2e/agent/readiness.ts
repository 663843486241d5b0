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

/** What the node's agent answers to /readyz; the text begins with the status. */
export function readyz(node: LabNode): Promise<{ status: number; text: string }> {
  return get(node, 'http://127.0.0.1:9099/readyz');
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
