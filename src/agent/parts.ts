import type { NetworkChanges } from '../leases/network-changes.ts';
import type { LeaseConflict } from '../leases/plan/conflicts.ts';
import type { LeaseSource } from '../leases/plan/source.ts';
import type { Masquerade } from '../masquerade/masquerade.ts';
import type { PeerFilter } from '../masquerade/peer-filter.ts';
import type { Mesh } from '../mesh/mesh.ts';
import type { Overlay } from '../overlay/overlay.ts';
import type { PlacedConfiguration } from '../pods/cni/placed-configuration.ts';
import type { CniServer } from '../pods/cni/server.ts';
import type { RulesChoice } from './rules-choice.ts';

/** The parts whose state makes up the agent's; those that do not run yet are undefined. */
export interface AgentParts {
  readonly source: LeaseSource;
  readonly overlay: Overlay | undefined;
  readonly masquerade: Masquerade | undefined;
  readonly peerFilter: PeerFilter | undefined;
  /** Undefined where it is not wanted, too. */
  readonly mesh: Mesh | undefined;
  readonly changes: NetworkChanges | undefined;
  readonly conflicts: readonly LeaseConflict[];
  readonly cni: CniServer | undefined;
  readonly cniConfiguration: PlacedConfiguration | undefined;
  readonly rules: Pick<RulesChoice, 'current' | 'warnings'>;
}
