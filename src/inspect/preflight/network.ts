import { statfsSync } from 'node:fs';
import { hasIpv6 } from '../../kernel/ipv6.ts';
import { lookUpRoute } from '../../kernel/netlink/route-lookup.ts';
import type { RtSocket } from '../../kernel/netlink/socket.ts';
import { run } from '../../kernel/process.ts';
import { leaseFamily } from '../../leases/plan/lease.ts';
import {
  type Address,
  ipv4,
  makePrefix,
  type Prefix,
  parseAddress,
  prefixesOverlap,
} from '../../model/address.ts';
import { describeError, isTwillError } from '../../model/error.ts';
import { readFileIfPresent } from '../../process/files.ts';
import { readNode } from '../overlay.ts';
import { bad, good, type PreflightCheck, poor } from '../plan/preflight.ts';
import type { AgentState } from '../plan/state.ts';

/** Nodes that are asked: each takes a second where it does not answer. */
const MOST_PEERS = 5;

/** IP header and ICMP header, in bytes. */
const PING_HEADERS = { ipv4: 28, ipv6: 48 } as const;

/** @returns undefined where there is no ping */
async function ping(address: Address, mtu?: number): Promise<boolean | undefined> {
  const size = mtu === undefined ? [] : ['-M', 'do', '-s', String(mtu - PING_HEADERS[address.family.name])];
  try {
    const { status } = await run('ping', ['-n', '-c', '1', '-W', '1', ...size, address.text]);
    return status === 0;
  } catch (error) {
    if (isTwillError(error, 'missing-program')) return undefined;
    throw error;
  }
}

/** Whether packets as large as the device takes get to the other node. */
async function pathCheck(socket: RtSocket, peer: Address): Promise<PreflightCheck> {
  const name = `path to ${peer.text}`;
  const way = await lookUpRoute(socket, peer);
  if (way === undefined) return bad('network', name, 'there is no route', `ip route get ${peer.text}`);
  const device = (await readNode(socket)).links.find(({ index }) => index === way.device);
  const mtu = Math.min(way.mtu ?? Number.POSITIVE_INFINITY, device?.mtu ?? 1500);
  const small = await ping(peer);
  if (small === undefined)
    return poor('network', name, 'cannot be tried: there is no ping', 'install iputils-ping');
  if (!small)
    return poor(
      'network',
      name,
      'no answer to a ping',
      `ping ${peer.text}: it may be down, or ICMP filtered`,
    );
  if (await ping(peer, mtu)) return good('network', name, `carries ${mtu} bytes by ${device?.name}`);
  return bad(
    'network',
    name,
    `packets of ${mtu} bytes, as large as ${device?.name} takes, do not get there: connections between pods hang`,
    `set Backend.MTU in the network configuration, or the MTU of ${device?.name}, to what the path carries (tracepath ${peer.text})`,
  );
}

/** The other node's VTEP answers only when VXLAN packets go both ways. */
async function tunnelCheck(lease: AgentState['leases'][number], port: number): Promise<PreflightCheck[]> {
  const peer = leaseFamily(lease, ipv4) ?? lease.families[0];
  if (peer === undefined) return [];
  const name = `VXLAN to ${peer.publicIp.text}`;
  const answered = await ping(peer.subnet.address);
  if (answered === undefined) return [];
  if (answered) return [good('network', name, `its VTEP ${peer.subnet.address.text} answers`)];
  return [
    bad(
      'network',
      name,
      `its VTEP ${peer.subnet.address.text} does not answer through the tunnel`,
      `let UDP port ${port} through between the nodes, in firewalls of both and of the network between (tcpdump -ni any udp port ${port} on both shows where it ends)`,
    ),
  ];
}

async function overlapChecks(
  socket: RtSocket,
  networks: readonly Prefix[],
  bridge: string,
): Promise<PreflightCheck[]> {
  const { addresses, names } = await readNode(socket);
  return networks.map((network) => {
    const clash = addresses.find(({ index, address, length }) => {
      const device = names.get(index) ?? '';
      if (device === bridge || device.startsWith('flannel')) return false;
      return prefixesOverlap(network, makePrefix(address, length));
    });
    if (clash === undefined)
      return good('network', `pod network ${network.text}`, 'overlaps no network of this node');
    const where = `${clash.address.text}/${clash.length} of ${names.get(clash.index)}`;
    return poor(
      'network',
      `pod network ${network.text}`,
      `overlaps ${where}: nodes whose subnet would be there are skipped`,
      'choose another Network, or limit it by SubnetMin and SubnetMax',
    );
  });
}

export interface NetworkQuestion {
  readonly peers: readonly string[];
  readonly networks: readonly Prefix[];
  readonly bridge: string;
  readonly state: AgentState | undefined;
}

/** The ways to other nodes. Before there are agents nothing answers at the VXLAN port. */
export async function networkChecks(socket: RtSocket, question: NetworkQuestion): Promise<PreflightCheck[]> {
  const { state, networks, bridge } = question;
  const found: PreflightCheck[] = [];
  const outside = await lookUpRoute(socket, parseAddress('198.51.100.1'));
  found.push(
    outside === undefined
      ? poor('network', 'default route', 'there is none', 'give --iface to twill agent')
      : good('network', 'default route', 'is there'),
    good('network', 'IPv6', hasIpv6() ? 'the kernel has it' : 'the kernel has none: one family only'),
  );
  const others = (state?.leases ?? []).filter(({ name }) => name !== state?.own?.name);
  const known = others.flatMap(({ families }) => families.slice(0, 1).map(({ publicIp }) => publicIp));
  const peers = question.peers.length > 0 ? question.peers.map(parseAddress) : known;
  found.push(...(await overlapChecks(socket, networks, bridge)));
  const backend = state?.network?.backend;
  const port = backend?.type === 'vxlan' ? backend.port : undefined;
  // At once: who does not answer is waited for.
  const [paths, tunnels] = await Promise.all([
    Promise.all(peers.slice(0, MOST_PEERS).map((peer) => pathCheck(socket, peer))),
    Promise.all(port === undefined ? [] : others.slice(0, MOST_PEERS).map((one) => tunnelCheck(one, port))),
  ]);
  found.push(...paths, ...tunnels.flat());
  if (port === undefined && peers.length === 0)
    found.push(
      poor(
        'network',
        'other nodes',
        'none is known yet, so the paths to them were not tried',
        'name some: twill preflight --peer ADDRESS',
      ),
    );
  return found;
}

const LEAST_BYTES = 50 * 1024 * 1024;
const LEAST_FILES = 1000;

function roomCheck(path: string): PreflightCheck[] {
  try {
    const { bavail, bsize, ffree, files } = statfsSync(path);
    const free = bavail * bsize;
    const text = `${Math.floor(free / 1024 / 1024)} MiB free`;
    if (free >= LEAST_BYTES && (files === 0 || ffree >= LEAST_FILES))
      return [good('node', `room in ${path}`, text)];
    return [poor('node', `room in ${path}`, `${text}, ${ffree} files`, `make room in ${path}`)];
  } catch (error) {
    return [poor('node', `room in ${path}`, describeError(error), `make the directory ${path}`)];
  }
}

/** Time and disk. */
export async function nodeChecks(): Promise<PreflightCheck[]> {
  const found = ['/run', '/var/lib', '/opt'].flatMap(roomCheck);
  // STA_UNSYNC, as systemd's and chrony's tools show it.
  const clock = await run('timedatectl', ['show', '-p', 'NTPSynchronized', '--value']).catch(() => undefined);
  const synchronized = clock?.status === 0 ? clock.stdout.trim() : undefined;
  if (synchronized === 'yes') found.push(good('node', 'clock', 'is synchronised'));
  if (synchronized === 'no')
    found.push(
      poor(
        'node',
        'clock',
        'is not synchronised: certificates and logs go by it',
        'start chrony or systemd-timesyncd',
      ),
    );
  const machine = readFileIfPresent('/etc/machine-id')?.trim() ?? '';
  if (machine === '' && clock !== undefined)
    found.push(poor('node', 'machine-id', '/etc/machine-id is empty', 'systemd-machine-id-setup'));
  return found;
}
