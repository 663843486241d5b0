import { once } from 'node:events';
import type { Namespace } from './namespace.ts';
import { waitFor } from './wait.ts';

/**
 * Runs a command of the program in a namespace until it has said something, or else until its end.
 * @param node the arguments of Node, the program's file among them
 * @returns its standard error
 */
export async function saidBy(
  namespace: Namespace,
  node: readonly string[],
  enough?: RegExp,
  env: NodeJS.ProcessEnv = {},
): Promise<string> {
  const child = namespace.spawn(process.execPath, node, {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, ...env },
  });
  let text = '';
  child.stderr!.on('data', (chunk: Buffer) => {
    text += chunk.toString();
  });
  const closed = once(child, 'close');
  try {
    if (enough !== undefined)
      await waitFor(`${node.join(' ')} to say ${enough}`, () => enough.test(text), { explain: () => text });
  } finally {
    if (enough !== undefined) child.kill();
    await closed;
  }
  return text;
}

/** Gives a namespace the interface and route that an agent looks for. */
export async function addUplink(namespace: Namespace): Promise<void> {
  await namespace.ip('link add eth0 type bridge', 'addr add 192.0.2.11/24 dev eth0', 'link set eth0 up');
  await namespace.ip('route add default via 192.0.2.1');
}
