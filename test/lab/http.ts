import type { Namespace } from './namespace.ts';

/** Sends text to a TCP port at 127.0.0.1 of the namespace and returns all that comes back until the other side closes. */
export async function sendRaw(namespace: Namespace, port: number, request: string): Promise<string> {
  const script = `exec 3<>/dev/tcp/127.0.0.1/${port} && cat >&3 && cat <&3`;
  return (await namespace.run('bash', ['-c', script], { input: request, timeoutMs: 30_000 })).stdout;
}

/** The answer to a GET request, head and body; empty where nobody listens. */
export function httpAnswer(namespace: Namespace, port: number, target: string): Promise<string> {
  return sendRaw(namespace, port, `GET ${target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
}

/** The answer's status; undefined where there is none. */
export async function httpStatus(
  namespace: Namespace,
  port: number,
  target: string,
): Promise<number | undefined> {
  const [, status] = /^HTTP\/1\.1 (\d{3}) /.exec(await httpAnswer(namespace, port, target)) ?? [];
  return status === undefined ? undefined : Number(status);
}
