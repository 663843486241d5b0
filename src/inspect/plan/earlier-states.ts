import type { AgentState, ProxyState } from './state.ts';

type Lacking<T, K extends keyof T> = Omit<T, K> & Partial<Pick<T, K>>;
type ProxyFamily = ProxyState['families'][number];

/**
 * States of this version as any program may have said them: what is optional came later. Who adds a field to a state adds it
 * here, with what follows from its absence; a field that cannot be done without is another version.
 */
export interface AnyAgentState extends Lacking<Omit<AgentState, 'rules'>, 'mesh' | 'meshPartners'> {
  readonly rules: Lacking<AgentState['rules'], 'shown'>;
}

export interface AnyProxyState
  extends Lacking<Omit<ProxyState, 'families'>, 'modeWhy' | 'repairs' | 'nftables'> {
  readonly families: readonly (Omit<ProxyFamily, 'render'> & {
    readonly render: Lacking<ProxyFamily['render'], 'matches'>;
  })[];
}

export function completeAgentState(state: AnyAgentState): AgentState {
  const rules = { shown: new Map(), ...state.rules };
  return { mesh: undefined, meshPartners: [], ...state, rules };
}

export function completeProxyState(state: AnyProxyState): ProxyState {
  const families = state.families.map((family): ProxyFamily => {
    // Rules were made without them.
    const render = { matches: [], ...family.render };
    return { ...family, render };
  });
  return { modeWhy: undefined, repairs: 0, nftables: [], ...state, families };
}
