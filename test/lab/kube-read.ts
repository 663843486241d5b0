// Reads Services as the proxy does, with the configuration it finds, and prints their keys whenever they change.
import pino from 'pino';
import { KubeClient } from '../../src/kubernetes/client.ts';
import { ServiceTracker } from '../../src/services/plan/tracker.ts';
import { KubeServiceSource } from '../../src/services/sources/kubernetes.ts';

const client = await KubeClient.open({});
const log = pino({ level: 'warn' }, pino.destination(2));
const source = new KubeServiceSource({ client, nodeName: 'node-a', log });
const tracker = new ServiceTracker();
const print = (): void => {
  process.stdout.write(`${JSON.stringify([...tracker.keys()].sort())}\n`);
};
await source.start({
  replace: (kind, values) => {
    tracker.replace(kind, values);
    print();
  },
  change: (change) => {
    tracker.apply(change);
    print();
  },
  node: () => {},
  nodeUnknown: () => {},
  skipped: () => {},
});
