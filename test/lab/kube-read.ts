// Reads Services as the proxy does, with the configuration it finds, and prints their keys whenever they change.
import pino from 'pino';
import { ServiceTracker } from '../../src/desired/service-tracker.ts';
import { KubeClient } from '../../src/store/kube-client.ts';
import { KubeServiceSource } from '../../src/store/kube-services.ts';

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
  skipped: () => {},
});
