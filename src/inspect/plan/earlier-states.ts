import type { MeshPartner } from '../../mesh/plan/state.ts';
import type { VxlanPlan } from '../../overlay/plan/device.ts';
import type { AgentState, ProxyState } from './state.ts';

type Lacking<T, K extends keyof T> = Omit<T, K> & Partial<Pick<T, K>>;
type ProxyFamily = ProxyState['families'][number];
type Later = 'mesh' | 'meshPartners' | 'devices' | 'rules';

/**
 * States of this version as any program may have said them: what is optional came later. Who adds a field to a state adds it
 * here, with what follows from its absence; a field that cannot be done without is another version.
 */
export interface AnyAgentState extends Omit<AgentState, Later> {
  readonly mesh?: AgentState['mesh'];
  readonly meshPartners?: readonly Lacking<MeshPartner, 'large'>[];
  readonly devices: readonly Lacking<VxlanPlan, 'direct'>[];
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
  // Large packets were not sent, and devices not made for what comes from elsewhere.
  const meshPartners = (state.meshPartners ?? []).map((one) => ({ large: undefined, ...one }));
  const devices = state.devices.map((one) => ({ direct: false, ...one }));
  return { mesh: undefined, ...state, meshPartners, devices, rules };
}

export function completeProxyState(state: AnyProxyState): ProxyState {
  const families = state.families.map((family): ProxyFamily => {
    // Rules were made without them.
    const render = { matches: [], ...family.render };
    return { ...family, render };
  });
  return { modeWhy: undefined, repairs: 0, nftables: [], ...state, families };
}
