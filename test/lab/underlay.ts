import type { Guard } from './guard.ts';
import { Namespace } from './namespace.ts';
import { type Addresses, Place } from './place.ts';

/** A node before it is one: its place in the addressing plan. */
export interface Machine extends Addresses {
  readonly name: string;
  /** The bridge port in the underlay that is the other end of the node's eth0. */
  readonly port: string;
}

export interface UnderlayPlan {
  readonly router: Addresses;
  readonly machines: readonly Machine[];
  readonly client: Addresses;
  readonly clientRouter: Addresses;
}

export const bridgeName = 'br0';

// Documentation ranges (RFC 5737, RFC 3849). Each lab's underlay is its own namespace, so all labs use the same.
const nodeNetwork = { ipv4: '192.0.2.', ipv6: '2001:db8:0:1::' };
const clientNetwork = { ipv4: '198.51.100.', ipv6: '2001:db8:0:2::' };
const prefixLength = { ipv4: 24, ipv6: 64 };

type Families = 'ipv4' | 'ipv6' | 'dual';

function hosts(network: Required<Addresses>, host: number, families: Families): Addresses {
  const all = { ipv4: network.ipv4 + host, ipv6: network.ipv6 + host.toString(16) };
  if (families === 'dual') return all;
  return families === 'ipv4' ? { ipv4: all.ipv4 } : { ipv6: all.ipv6 };
}

export function planUnderlay(nodes: number, families: Families): UnderlayPlan {
  return {
    router: hosts(nodeNetwork, 1, families),
    machines: Array.from({ length: nodes }, (_, index) => ({
      name: `node${index + 1}`,
      port: `port${index + 1}`,
      ...hosts(nodeNetwork, 11 + index, families),
    })),
    client: hosts(clientNetwork, 2, families),
    clientRouter: hosts(clientNetwork, 1, families),
  };
}

/** `ip` commands that give a device its addresses and, if there is a router, the default routes. */
function addressCommands(device: string, own: Addresses, router: Addresses = {}): string[] {
  const commands: string[] = [];
  for (const family of ['ipv4', 'ipv6'] as const) {
    const address = own[family];
    if (address === undefined) continue;
    const options = family === 'ipv6' ? ' nodad' : '';
    commands.push(`address add ${address}/${prefixLength[family]} dev ${device}${options}`);
    if (router[family] !== undefined) commands.push(`route add default via ${router[family]} dev ${device}`);
  }
  return commands;
}

export interface Underlay {
  readonly underlay: Namespace;
  readonly nodes: readonly { readonly machine: Machine; readonly namespace: Namespace }[];
  readonly client: Place;
}

async function connect(underlay: Namespace, namespace: Namespace, port: string): Promise<void> {
  await namespace.ip(`link add eth0 type veth peer name ${port} netns ${underlay.name}`);
}

/** A bridge that the nodes are plugged into, and a router on it (the same namespace) to the outside client. */
export async function buildUnderlay(guard: Guard, plan: UnderlayPlan): Promise<Underlay> {
  const names = plan.machines.map((machine) => machine.name);
  const made = await Promise.all(['underlay', 'client', ...names].map((name) => Namespace.make(name, guard)));
  const [underlay, client, ...namespaces] = made as [Namespace, Namespace, ...Namespace[]];
  await underlay.exec('tee', ['/proc/sys/net/ipv4/ip_forward', '/proc/sys/net/ipv6/conf/all/forwarding'], {
    input: '1',
  });
  await underlay.ip(
    `link add ${bridgeName} type bridge`,
    `link set ${bridgeName} up`,
    ...addressCommands(bridgeName, plan.router),
  );
  await connect(underlay, client, 'client');
  await underlay.ip('link set client up', ...addressCommands('client', plan.clientRouter));
  await client.ip('link set eth0 up', ...addressCommands('eth0', plan.client, plan.clientRouter));
  const nodes = await Promise.all(
    plan.machines.map(async (machine, index) => {
      const namespace = namespaces[index]!;
      await connect(underlay, namespace, machine.port);
      await underlay.ip(`link set ${machine.port} master ${bridgeName} up`);
      await namespace.ip('link set eth0 up', ...addressCommands('eth0', machine, plan.router));
      return { machine, namespace };
    }),
  );
  return { underlay, nodes, client: new Place('client', client, plan.client) };
}
