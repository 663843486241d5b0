import assert from 'node:assert/strict';
import { isDeepStrictEqual } from 'node:util';
import { leaseFamily, parseLease } from '../../../src/leases/plan/lease.ts';
import { type Family, ipv4, ipv6 } from '../../../src/model/address.ts';
import { nexthopId } from '../../../src/overlay/plan/entries.ts';
import { etcdPrefix, type Lab } from '../../lab/lab.ts';
import type { Namespace } from '../../lab/namespace.ts';
import type { LabNode } from '../../lab/node.ts';

/** The overlay's entries in a node's kernel, as sorted lines. */
export interface OverlayState {
  readonly routes: readonly string[];
  readonly nexthops: readonly string[];
  readonly neighbours: readonly string[];
  readonly fdb: readonly string[];
}

/** Every route into the pod network by our protocol or our device, and every permanent entry of the device. */
export async function kernelState(node: Namespace, family: Family = ipv4, vni = 1): Promise<OverlayState> {
  const device = family === ipv4 ? `flannel.${vni}` : `flannel-v6.${vni}`;
  const flag = family === ipv4 ? '-4' : '-6';
  const routes = await node.exec('ip', ['-N', flag, 'route', 'show']);
  const nexthops = await node.exec('ip', ['-N', flag, 'nexthop', 'show', 'dev', device]);
  const neighbours = await node.exec('ip', [flag, 'neighbour', 'show', 'dev', device, 'nud', 'permanent']);
  const fdb = await node.exec('bridge', ['fdb', 'show', 'dev', device]);
  const lines = (text: string): string[] =>
    text
      .split('\n')
      .map((line) => line.trim())
      .filter(Boolean)
      .sort();
  return {
    routes: lines(routes)
      .filter((line) => line.includes(' proto 80') || (line.includes(device) && line.includes(' via ')))
      .map((line) => line.replace(/ metric \d+| pref \w+|\s+$/g, '')),
    nexthops: lines(nexthops).map((line) => line.replace(/ scope \w+/, '')),
    neighbours: lines(neighbours).map((line) => line.replace(/ PERMANENT.*| lladdr/g, '')),
    fdb: lines(fdb)
      .filter((line) => line.includes(' dst '))
      .map((line) => line.replace(/ self permanent/, '')),
  };
}

/** What flannel's rules make of the leases in etcd, from the view of the node with this public IP. */
async function expectedState(
  lab: Lab,
  publicIp: string,
  family: Family = ipv4,
  vni = 1,
): Promise<OverlayState> {
  const device = family === ipv4 ? `flannel.${vni}` : `flannel-v6.${vni}`;
  const state = {
    routes: [] as string[],
    nexthops: [] as string[],
    neighbours: [] as string[],
    fdb: [] as string[],
  };
  for (const { key, value } of await lab.etcd.keys(`${etcdPrefix}/subnets/`)) {
    let lease: ReturnType<typeof parseLease>;
    try {
      lease = parseLease(key.split('/').at(-1)!, value);
    } catch {
      continue;
    }
    const peer = leaseFamily(lease, family);
    if (peer === undefined || peer.publicIp.text === publicIp) continue;
    const tunnel = peer.subnet.address.text;
    const hop = `via ${tunnel} dev ${device} proto 80 onlink`;
    const id = nexthopId(peer.subnet.address);
    state.routes.push(`${peer.subnet.text} ${family === ipv4 ? `nhid ${id} ` : ''}${hop}`);
    if (family === ipv4) state.nexthops.push(`id ${id} ${hop}`);
    state.neighbours.push(`${tunnel} ${peer.vtepMac}`);
    state.fdb.push(`${peer.vtepMac} dst ${peer.publicIp.text}`);
  }
  for (const list of Object.values(state)) list.sort();
  return state;
}

/** Resolves when the node's kernel holds exactly what follows from the leases; shows the difference when it does not. */
export async function assertConverges(
  lab: Lab,
  node: LabNode,
  options: { family?: Family; publicIp?: string; vni?: number } = {},
): Promise<void> {
  const { family = ipv4, vni = 1 } = options;
  const publicIp = options.publicIp ?? (family === ipv6 ? node.ipv6 : node.ipv4);
  let actual: OverlayState | undefined;
  let expected: OverlayState | undefined;
  try {
    await lab.waitFor(`the kernel of ${node.name} to be as desired`, async () => {
      expected = await expectedState(lab, publicIp, family, vni);
      actual = await kernelState(node.namespace, family, vni);
      return isDeepStrictEqual(actual, expected);
    });
  } catch (error) {
    assert.deepEqual(actual, expected);
    throw error;
  }
}

/** The lines that a running process has written since `from` characters, for what must have been said since then. */
export function saidSince(node: LabNode, from: number, pattern: RegExp): boolean {
  return pattern.test(node.agent!.log().slice(from));
}

/** A lease exactly as flanneld writes it. */
export function flannelLease(
  host: number,
  mac: string,
  ip = `192.0.2.${host}`,
): { key: string; value: string } {
  return {
    key: `${etcdPrefix}/subnets/10.244.${host}.0-24`,
    value: `{"PublicIP":"${ip}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"${mac}"}}`,
  };
}
