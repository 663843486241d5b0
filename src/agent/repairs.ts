import type { AgentParts } from './parts.ts';

/** What was put right because something else had changed it, by kind, since the agent began. */
export function repairCounts({ overlay, masquerade, peerFilter, cni }: AgentParts): Record<string, number> {
  return {
    entries: overlay?.peers.repairs ?? 0,
    devices: overlay?.vteps.repairs ?? 0,
    settings: overlay?.settings.repairs ?? 0,
    pods: cni?.repairs.pods ?? 0,
    rules: (masquerade?.repairs ?? 0) + (peerFilter?.repairs ?? 0) + (cni?.repairs.rules ?? 0),
  };
}
