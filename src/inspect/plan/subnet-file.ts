import { renderSubnetFile } from '../../leases/plan/subnet-file.ts';
import { follows, podFamilies } from '../../overlay/plan/pod-network.ts';
import type { AgentState } from './state.ts';

/** What the agent's subnet file should hold; undefined where the agent has not written what holds now. */
export function wantedSubnetFile({
  own,
  network,
  podMtu: mtu,
  settings,
}: Pick<AgentState, 'own' | 'network' | 'podMtu'> & {
  readonly settings: Pick<AgentState['settings'], 'ipMasq'>;
}): string | undefined {
  // Until the lease follows a changed configuration the file has what was before.
  if (own === undefined || network === undefined || mtu === undefined || !follows(own, network))
    return undefined;
  return renderSubnetFile({ families: podFamilies(own, network), mtu }, settings.ipMasq);
}
