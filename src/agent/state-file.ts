import { encodeStatePieces } from '../inspect/plan/codec.ts';
import { stateFile } from '../inspect/plan/state-file.ts';
import type { Log } from '../process/log.ts';
import { keepState } from '../process/state-keeper.ts';
import { agentState, type StateSubject } from './state.ts';

/** Numbers objects by their identity: another lease, or configuration, is another object. */
class Identities {
  private readonly known = new WeakMap<object, number>();
  private last = 0;

  of(value: object | undefined): number {
    if (value === undefined) return 0;
    const known = this.known.get(value);
    if (known !== undefined) return known;
    this.known.set(value, ++this.last);
    return this.last;
  }
}

/**
 * Keeps what this agent works by in a file beside the socket.
 * @returns writes the last state, and ends
 */
export function keepAgentState(socketPath: string, subject: () => StateSubject, log: Log): () => void {
  const identities = new Identities();
  const print = (): string => {
    const { parts, network, changes } = subject();
    const { source, overlay, masquerade, mesh, cni } = parts;
    const { input, skipped } = overlay?.peers ?? {};
    const pods = overlay?.podNetwork();
    return [
      changes,
      ...[network, source.own(), overlay?.underlay(), input].map((one) => identities.of(one)),
      skipped?.length,
      pods?.ready === true ? pods.network.mtu : pods?.reason,
      masquerade?.state().wanted.length,
      cni?.pods().length,
      mesh?.changes,
      overlay?.vteps.plans().map(({ name, mac, mtu }) => `${name} ${mac} ${mtu}`),
    ].join();
  };
  return keepState({
    file: stateFile(socketPath, 'agent'),
    log,
    print,
    isStarting: () => subject().parts.overlay?.podNetwork().ready !== true,
    pieces: () => encodeStatePieces(agentState(subject())),
  });
}
