import type { LeaseSource } from '../leases/plan/source.ts';
import { Mesh } from '../mesh/mesh.ts';
import type { MeshView } from '../mesh/plan/places.ts';
import type { Overlay } from '../overlay/overlay.ts';
import type { Log } from '../process/log.ts';
import type { AgentConfig } from './config.ts';

/** What the overlay was last made from. */
function meshView(overlay: Overlay, source: LeaseSource): MeshView | undefined {
  const { input, skipped } = overlay.peers;
  const own = source.own();
  const addresses = overlay.underlay()?.addresses;
  const pods = overlay.podNetwork();
  if (input === undefined || own === undefined || addresses === undefined) return undefined;
  return {
    own,
    leases: source.leases(),
    backend: input.backend,
    families: input.paths.map(({ family }) => family),
    skipped,
    local: input.ground.addresses,
    underlay: addresses,
    largest: pods.ready ? pods.network.mtu : 0,
  };
}

/** Starts to ask other nodes and to answer them, where that is wanted. */
export function startMesh(
  { mesh: wanted }: AgentConfig,
  log: Log,
  overlay: Overlay,
  source: LeaseSource,
): Mesh | undefined {
  if (wanted === undefined) return undefined;
  const mesh = new Mesh({ ...wanted, log, view: () => meshView(overlay, source) });
  mesh.start();
  return mesh;
}
