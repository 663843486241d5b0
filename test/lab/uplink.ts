import { RtSocket } from '../../src/kernel/netlink/socket.ts';
import { inNetns } from '../../src/kernel/netns.ts';
import { type Namespace, withNamespace } from './namespace.ts';

/**
 * Runs `work` with a node that has eth0 with 192.0.2.9, and a socket to its kernel; removes both whatever happens.
 * @param more commands of `ip` that are run after that
 */
export async function withUplink(
  label: string,
  more: readonly string[],
  work: (node: Namespace, socket: RtSocket) => Promise<void>,
): Promise<void> {
  await withNamespace(label, async (node) => {
    await node.ip(
      'link add eth0 type veth peer name other',
      'link set other up',
      'link set eth0 up',
      'address add 192.0.2.9/24 dev eth0',
      ...more,
    );
    const socket = inNetns(node.path, () => new RtSocket());
    try {
      await work(node, socket);
    } finally {
      socket.close();
    }
  });
}
