// A CNI server alone, without the agent around it: tests run this program inside a namespace.
// Arguments: socket, state directory, subnets with their networks as `NETWORK=SUBNET`, comma-separated, and perhaps the
// grace period in milliseconds.

import { join } from 'node:path';
import { parsePrefix, prefixHost } from '../../src/model/address.ts';
import type { PodNetworkState } from '../../src/model/pod-network.ts';
import { startCniServer } from '../../src/pods/cni/server.ts';
import { makeLog } from '../../src/process/log.ts';

const [socketPath = '', stateDir = '', subnets = '', graceMs] = process.argv.slice(2);
const families = subnets
  .split(',')
  .filter((text) => text !== '')
  .map((text) => {
    const [network = '', own = ''] = text.split('=');
    const subnet = parsePrefix(own);
    return {
      family: subnet.family,
      network: parsePrefix(network),
      subnet,
      gateway: prefixHost(subnet, 1),
    };
  });
const state: PodNetworkState =
  families.length > 0
    ? { ready: true, network: { families, mtu: 1450 } }
    : { ready: false, reason: 'no subnet was given' };
const server = await startCniServer({
  socketPath,
  stateDir,
  cniDataDir: join(stateDir, 'cni-data'),
  bridge: 'cni0',
  log: makeLog({ level: 'info', format: 'json', name: 'cni-server' }),
  podNetwork: () => state,
  ...(graceMs === undefined ? {} : { graceMs: Number(graceMs) }),
});
process.stdout.write('ready\n');
process.once('SIGTERM', () => void server.close().then(() => process.exit(0)));
setInterval(() => {}, 1 << 30);
