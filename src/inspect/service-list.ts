import { type ServiceRow, serviceRow } from '../services/plan/row.ts';
import { ask } from './client.ts';
import type { ProxyState } from './plan/state.ts';
import { loadServices } from './services-source.ts';
import type { Known } from './states.ts';

const ASK_MS = 5000;

/**
 * The Services of this node: the proxy is asked; where it does not answer, its source is.
 * @throws TwillError where neither says anything
 */
export async function listServices(
  { state, live }: Known<ProxyState>,
  socketPath: string,
): Promise<ServiceRow[]> {
  if (state === undefined) return [];
  if (live) {
    const text = await ask('proxy', socketPath, { inspect: 'services' }, ASK_MS);
    return (JSON.parse(text) as { services: ServiceRow[] }).services;
  }
  const { tracker, view } = await loadServices(state);
  return [...tracker.keys()].flatMap((key) => serviceRow(key, tracker.state(key), view) ?? []);
}
