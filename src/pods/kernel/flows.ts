import { Conntrack } from '../../kernel/conntrack.ts';
import { listAddresses } from '../../kernel/netlink/addresses.ts';
import type { RtSocket } from '../../kernel/netlink/socket.ts';
import { describeError } from '../../model/error.ts';
import type { Flow } from '../../model/flow.ts';
import type { Log } from '../../process/log.ts';

import { podStaleFlows } from '../plan/flows.ts';
import type { PodRecord } from '../plan/pod.ts';

/**
 * Forgets UDP and SCTP conversations that began before a host port led to the pod, or lead to one that is gone; all
 * others stay. Failing is harmless, so it is only logged.
 * @param stands false when the pod is gone
 */
export async function forgetStaleFlows(
  socket: RtSocket,
  record: PodRecord,
  stands: boolean,
  log: Log,
): Promise<void> {
  if (record.portMappings.every(({ protocol }) => protocol === 'tcp')) return;
  const own = new Set((await listAddresses(socket)).map(({ address }) => address.text));
  const conntrack = new Conntrack();
  try {
    for (const { family, protocol, port, isStale } of podStaleFlows(
      record,
      (text) => own.has(text),
      stands,
    )) {
      const only = { protocol, port };
      const wanted = (flow: Flow): boolean =>
        flow.protocol === protocol && flow.destination.port === port && isStale(flow);
      const flows = await conntrack.list(family, wanted, { only });
      if (flows.length === 0) continue;
      const count = await conntrack.delete(family, flows);
      log.info({ containerId: record.containerId, protocol, hostPort: port, count }, 'stale flows forgotten');
    }
  } catch (error) {
    const { containerId } = record;
    log.warn({ containerId, error: describeError(error) }, 'cannot forget old flows of host ports');
  } finally {
    conntrack.close();
  }
}
