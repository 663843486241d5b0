import pino from 'pino';
import { TwillError } from '../model/error.ts';
import type { NodeFacts } from '../services/plan/service.ts';
import type { NodeView } from '../services/plan/table.ts';
import { ServiceTracker } from '../services/plan/tracker.ts';
import type { ObjectKind, ServiceSink, ServiceSource } from '../services/sources/source.ts';
import type { ProxyState } from './plan/state.ts';

/** All Services, as their source says them now, and this node as the rules see it. */
export interface LoadedServices {
  readonly tracker: ServiceTracker;
  readonly view: NodeView;
}

const LIST_MS = 5000;

async function openSource({ settings, node }: ProxyState): Promise<ServiceSource> {
  if (settings.manifests !== undefined) {
    const { ManifestSource } = await import('../services/sources/manifests.ts');
    return new ManifestSource(settings.manifests, node);
  }
  const { KubeClient } = await import('../kubernetes/client.ts');
  const { KubeServiceSource } = await import('../services/sources/kubernetes.ts');
  const { kubeconfig, master } = settings;
  const client = await KubeClient.open({ kubeconfig, master });
  return new KubeServiceSource({ client, nodeName: node, log: pino({ level: 'silent' }) });
}

/**
 * Asks the source that a proxy had for everything, once: for a proxy that does not answer.
 * @throws TwillError `unavailable` where the source does not answer either
 */
export async function loadServices(state: ProxyState): Promise<LoadedServices> {
  const source = await openSource(state);
  const tracker = new ServiceTracker();
  const listed = new Set<ObjectKind>();
  let facts: NodeFacts | undefined;
  let timer: NodeJS.Timeout | undefined;
  const whole = new Promise<void>((resolve, reject) => {
    const message = `${source.description} does not answer`;
    timer = setTimeout(() => reject(new TwillError('unavailable', message)), LIST_MS);
    const sink: ServiceSink = {
      replace(kind, values) {
        tracker.replace(kind, values);
        listed.add(kind);
        if (listed.size === 2) resolve();
      },
      change: (change) => tracker.apply(change),
      node: (seen) => {
        facts = seen;
      },
      nodeUnknown: () => {},
      skipped: () => {},
    };
    source.start(sink).catch(reject);
  });
  try {
    await whole;
  } finally {
    clearTimeout(timer);
    await source.stop();
  }
  return { tracker, view: { name: state.node, zone: facts?.zone ?? state.zone } };
}
