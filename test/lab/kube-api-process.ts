// Runs a KubeApi inside a namespace; commands come as lines of JSON on standard input, the first line out is its URL.
// Argument: the address to listen on.
import { createInterface } from 'node:readline';
import { type ApiObject, KubeApi } from './kube-api.ts';

export type ApiCommand =
  | { readonly put: readonly ApiObject[] }
  | { readonly delete: readonly ApiObject[] }
  /** Puts `slice` again and again, with another address each time, `perSecond` times a second for `seconds`. */
  | { readonly churn: { readonly slice: ApiObject; readonly perSecond: number; readonly seconds: number } };

const api = await KubeApi.start(0, process.argv[2]);
process.stdout.write(`${api.url}\n`);

function churn(slice: ApiObject, perSecond: number, seconds: number): void {
  const start = Date.now();
  let sent = 0;
  const timer = setInterval(() => {
    const due = Math.min(perSecond * seconds, Math.floor(((Date.now() - start) / 1000) * perSecond));
    for (; sent < due; sent++) {
      const text = JSON.stringify(slice).replaceAll(
        '10.244.77.1',
        `10.244.${78 + (sent % 100)}.${1 + (sent % 250)}`,
      );
      const object = JSON.parse(text) as { metadata: { name: string; labels: Record<string, string> } };
      // Hundred Services take turns.
      object.metadata.name += `-${sent % 100}`;
      object.metadata.labels['kubernetes.io/service-name'] += `-${sent % 100}`;
      api.put(object as ApiObject);
    }
    if (sent >= perSecond * seconds) {
      clearInterval(timer);
      process.stdout.write(`churned ${sent}\n`);
    }
  }, 5);
}

createInterface({ input: process.stdin }).on('line', (line) => {
  const command = JSON.parse(line) as ApiCommand;
  if ('put' in command) for (const object of command.put) api.put(object);
  else if ('delete' in command) for (const object of command.delete) api.delete(object);
  else churn(command.churn.slice, command.churn.perSecond, command.churn.seconds);
});
