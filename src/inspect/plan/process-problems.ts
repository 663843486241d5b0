import type { ServiceRow } from '../../services/plan/row.ts';
import type { Problem } from './problem.ts';
import type { AgentState, ProxyState } from './state.ts';

/** A process as it is known. */
interface Known<T> {
  readonly state: T | undefined;
  readonly live: boolean;
  readonly why: string | undefined;
}

/** What follows from agent or proxy that do not answer, or are not ready. A node may be without a proxy of ours. */
export function absenceProblems(agent: Known<AgentState>, proxy: Known<ProxyState>): Problem[] {
  const found: Problem[] = [];
  if (agent.state === undefined)
    found.push({
      severity: proxy.state === undefined ? 'down' : 'degraded',
      area: 'agent',
      what: `${agent.why}, and has written nothing down: no agent runs here`,
      show: 'journalctl -u twill-agent; kubectl logs',
    });
  else if (!agent.live)
    found.push({
      severity: 'degraded',
      area: 'agent',
      what: `${agent.why}: traffic goes on, pods are not added, and nothing is put right`,
    });
  if (proxy.state !== undefined && !proxy.live)
    found.push({
      severity: 'degraded',
      area: 'proxy',
      what: `${proxy.why}: traffic to Services goes on by the rules that stand, and they do not follow changes`,
    });
  const { state } = proxy;
  if (state !== undefined && proxy.live) {
    if (!state.ready)
      found.push({
        severity: 'degraded',
        area: 'proxy',
        what: `the rules of Services do not stand yet: ${state.waitingFor ?? state.loops[0]?.lastError ?? 'being written'}`,
      });
    for (const { name, detail } of state.warnings)
      found.push({ severity: 'degraded', area: 'proxy', what: `${name}: ${detail}` });
  }
  return found;
}

/** Without these the node's pods have no network. */
const vital = new Set(['lease', 'overlay', 'pod network']);

/** What the agent says in /readyz that is not ok. */
export function checkProblems({ checks }: AgentState): Problem[] {
  return checks
    .filter(({ state }) => state !== 'ok')
    .map(({ name, state, detail }) => ({
      severity: state === 'failed' && vital.has(name) ? 'down' : 'degraded',
      area: name,
      what: detail,
    }));
}

const MOST_NAMED = 5;

/** Services that nobody reaches are their owners' business: a note. */
export function serviceProblems(services: readonly ServiceRow[]): Problem[] {
  const troubled = services.filter(({ trouble }) => trouble !== undefined);
  const found = troubled.slice(0, MOST_NAMED).map(
    ({ name, trouble }): Problem => ({
      severity: trouble?.startsWith('the kernel refuses') ? 'degraded' : 'note',
      area: 'services',
      what: `${name}: ${trouble}`,
      show: `twill services ${name}`,
    }),
  );
  const more = troubled.length - found.length;
  if (more > 0)
    found.push({ severity: 'note', area: 'services', what: `and ${more} more`, show: 'twill services' });
  return found;
}
