import { KernelRefusal } from '../../kernel/errno.ts';
import { addAddress } from '../../kernel/netlink/addresses.ts';
import { RTPROT_STATIC } from '../../kernel/netlink/constants.ts';
import { DirectSocket } from '../../kernel/netlink/direct.ts';
import { createVeth, deleteLink, setBridgePort, setLink, syncCarrier } from '../../kernel/netlink/links.ts';
import { addRoute, type RoutePlan } from '../../kernel/netlink/routes.ts';
import type { Change } from '../../kernel/netlink/socket.ts';
import { closeNetns, findInterfaceIndex, inNetns, type Netns } from '../../kernel/netns.ts';
import { writeSysctl } from '../../kernel/sysctl.ts';
import { isTwillError, TwillError } from '../../model/error.ts';
import { type PlannedRoute, type PodPlan, SCOPE_LINK } from '../plan/wiring.ts';
import { namespaceIdAt, openPodNamespace } from './namespace.ts';

/** Metric of routes that another interface's come before: above IPv6's default of 1024. */
const BEHIND = 2048;

/**
 * Makes the kernel announce the interface's addresses to the bridge, use its link-local address at once, and not listen
 * to other pods that claim to be routers.
 */
function prepareInterface(plan: PodPlan): void {
  const { ifname, addresses } = plan;
  for (const family of new Set(addresses.map(({ address }) => address.family.name))) {
    if (family === 'ipv4') {
      writeSysctl(`net/ipv4/conf/${ifname}/arp_notify`, '1');
    } else {
      // Runtimes make sandboxes with IPv6 off. What a pod sends to itself passes its loopback.
      for (const device of [ifname, 'lo']) writeSysctl(`net/ipv6/conf/${device}/disable_ipv6`, '0');
      writeSysctl(`net/ipv6/conf/${ifname}/accept_dad`, plan.detectDuplicates ? '1' : '0');
      writeSysctl(`net/ipv6/conf/${ifname}/accept_ra`, '0');
      writeSysctl(`net/ipv6/conf/${ifname}/ndisc_notify`, '1');
    }
  }
}

function interfaceChanges(plan: PodPlan, index: number): Change[] {
  return [
    ...plan.addresses.map(({ address, subnet }) =>
      addAddress({ index, address, length: subnet.length, detectDuplicates: plan.detectDuplicates }),
    ),
    setLink(index, { up: true }, plan.ifname),
  ];
}

function routePlan({ priority, ...route }: PlannedRoute, device: number): RoutePlan {
  const given = Object.entries({ ...route, metric: priority }).filter(([, value]) => value !== undefined);
  return { ...(Object.fromEntries(given) as unknown as RoutePlan), device, protocol: RTPROT_STATIC };
}

/** Only a configuration can name a gateway that the pod does not reach, or a route that is none. */
function routeError({ destination, gateway, scope = 0 }: PlannedRoute, error: TwillError): TwillError {
  const errno = error instanceof KernelRefusal ? error.errno : '';
  if (!/^E(INVAL|NETUNREACH|HOSTUNREACH)$/.test(errno)) return error;
  const why =
    gateway === undefined || scope >= SCOPE_LINK
      ? `ipam.routes.scope is ${scope} for ${destination.text}, which the kernel refuses: leave it out, or have 253 without gw for a network on the link`
      : errno === 'EINVAL'
        ? `ipam.routes.gw is "${gateway.text}" for ${destination.text}, and nobody can have that address: choose another`
        : `ipam.routes.gw is "${gateway.text}" for ${destination.text}, and no network of the pod has it: add a route with scope 253 to it before, or choose another`;
  return new TwillError('invalid', `network configuration: ${why}`, error);
}

/**
 * The routes of another interface of the pod stay (CNI specification 0.4.0, "IP Allocation", Notes): ours come behind
 * them then, and in their place when that interface goes.
 */
function makeRoutes(pod: DirectSocket, plan: PodPlan, device: number): void {
  const routes = plan.routes.map((route) => routePlan(route, device));
  const refusals = pod.attempt(routes.map(addRoute));
  const failed = refusals.findIndex((error) => error !== undefined && !isTwillError(error, 'exists'));
  if (failed >= 0) throw routeError(plan.routes[failed]!, refusals[failed]!);
  const behind = routes.filter((_, index) => refusals[index] !== undefined);
  if (behind.length > 0) pod.apply(behind.map((route) => addRoute({ ...route, metric: BEHIND + device })));
}

function createPair(host: DirectSocket, plan: PodPlan, where: PodPlace): void {
  const { hostVeth, hostMac, ifname, mac, mtu, hairpin } = plan;
  host.apply([
    createVeth(
      { name: hostVeth, mac: hostMac, mtu, master: where.bridgeIndex, up: true },
      { name: ifname, mac, mtu, netnsFd: where.netns.fd },
    ),
    setBridgePort(hostVeth, { hairpin, isolated: plan.isolated, mtu }, where.alias),
  ]);
}

/** Where a pod's interface goes, and the host-side veth's alias. */
export interface PodPlace {
  readonly netns: Netns;
  readonly bridgeIndex: number;
  readonly alias: string;
}

/** To be called inside the pod's namespace; `host` serves the node's from there. */
function configureInside(host: DirectSocket, plan: PodPlan): void {
  const index = findInterfaceIndex(plan.ifname);
  if (index === undefined) throw new TwillError('not-found', `the pod's interface ${plan.ifname} is gone`);
  prepareInterface(plan);
  const pod = new DirectSocket();
  try {
    pod.apply(interfaceChanges(plan, index));
    makeRoutes(pod, plan, index);
    // Setting the MAC it has makes the kernel send the gratuitous ARP and the unsolicited neighbour advertisement
    // (NETDEV_CHANGEADDR); those it sends when the device goes up come before the bridge forwards from the port.
    host.apply([syncCarrier(plan.hostVeth)]);
    pod.apply([setLink(index, { mac: plan.mac }, plan.ifname)]);
  } finally {
    pod.close();
  }
}

/**
 * Makes the veth pair and configures both ends: a millisecond and a half of the kernel's time, in one go. Whoever calls
 * removes the host end when this fails.
 * @throws TwillError `exists` when the namespace has such an interface already
 */
export function wirePod(host: DirectSocket, plan: PodPlan, where: PodPlace): void {
  createPair(host, plan, where);
  if (!plan.up) return;
  inNetns(where.netns, () => configureInside(host, plan));
}

/**
 * Deletes a pod's interface, and with it the other end, from within the pod. What is not there needs no deleting.
 * @param path of the pod's namespace, which may be gone
 */
export function unwirePod(path: string, ifname: string): void {
  if (path === '' || namespaceIdAt(path) === undefined) return;
  const netns = openPodNamespace(path);
  try {
    inNetns(netns, () => {
      const index = findInterfaceIndex(ifname);
      if (index === undefined) return;
      const pod = new DirectSocket();
      try {
        pod.apply([deleteLink(index, ifname)]);
      } finally {
        pod.close();
      }
    });
  } finally {
    closeNetns(netns);
  }
}
