import { kernelFamilies } from '../../kernel/ipv6.ts';
import { parseAddress } from '../../model/address.ts';
import { describeError } from '../../model/error.ts';
import { addressesOf, type PodRecord } from '../../pods/plan/pod.ts';
import type { ServiceRow } from '../../services/plan/row.ts';
import { knownPods } from '../pod-records.ts';
import { listServices } from '../service-list.ts';
import { agentState, askLive, proxyState } from '../states.ts';
import type { Protocol } from './plan/packet.ts';
import { type ServiceAddress, servicesOfRules } from './plan/service-names.ts';
import type { NamedPod, Names } from './plan/targets.ts';
import type { OwnRules } from './rules.ts';

function serviceAddresses(rows: readonly ServiceRow[]): ServiceAddress[] {
  return rows.flatMap(({ name, clusterIPs, externalIPs, loadBalancerIPs, ports }) => {
    const kinds = [
      ['cluster IP', clusterIPs],
      ['external IP', externalIPs],
      ['loadbalancer IP', loadBalancerIPs],
    ] as const;
    return kinds.flatMap(([kind, addresses]) =>
      addresses.flatMap((address) =>
        ports.map((port) => ({
          service: name,
          portName: port.name,
          address: parseAddress(address).text,
          port: port.port,
          protocol: port.protocol.toLowerCase() as Protocol,
          kind,
        })),
      ),
    );
  });
}

interface ServiceNames {
  readonly ways: ServiceAddress[];
  readonly headless: string[];
}

function namesOf(rows: readonly ServiceRow[]): ServiceNames {
  const headless = rows.filter(({ type }) => type === 'Headless').map(({ name }) => name);
  return { ways: serviceAddresses(rows), headless };
}

/** The proxy's Services; those that rules, or its source, tell while it does not answer. */
async function services(socket: string, rules: OwnRules, notes: string[]): Promise<ServiceNames> {
  try {
    const { services: rows } = JSON.parse(await askLive('proxy', socket, { inspect: 'services' })) as {
      services: ServiceRow[];
    };
    return namesOf(rows);
  } catch (error) {
    const found = (await Promise.all(kernelFamilies().map(rules))).flatMap(servicesOfRules);
    if (found.length > 0) {
      notes.push(`${describeError(error)}: names of Services are those of the rules`);
      return { ways: found, headless: [] };
    }
    // Its source knows them, also where no rule does any more.
    const rows = await listServices(await proxyState(socket), socket).catch(() => []);
    if (rows.length > 0) notes.push(`${describeError(error)}: names of Services are those of its source`);
    return namesOf(rows);
  }
}

/** Of a pod with several interfaces all addresses are one's. */
function namedPods(records: readonly PodRecord[]): NamedPod[] {
  const found = new Map<string, NamedPod & { readonly addresses: string[] }>();
  for (const record of records) {
    const { pod, containerId, netns } = record;
    const known = found.get(containerId) ?? { pod, containerId, netns, addresses: [] };
    found.set(containerId, known);
    known.addresses.push(...addressesOf(record));
  }
  return [...found.values()];
}

async function pods(socket: string, notes: string[]): Promise<NamedPod[]> {
  try {
    const { pods: records, why } = await knownPods(socket);
    if (why !== undefined) notes.push(`${why}: names of pods are those of its records`);
    return namedPods(records);
  } catch (error) {
    notes.push(`${describeError(error)}: pods are known by their addresses only`);
    return [];
  }
}

/** Who can be named on this node, from whoever knows it. */
export async function readNames(
  flags: { readonly socket: string; readonly proxySocket: string },
  rules: OwnRules,
): Promise<Names & { readonly notes: string[] }> {
  const notes: string[] = [];
  const [named, { ways, headless }, agent] = await Promise.all([
    pods(flags.socket, notes),
    services(flags.proxySocket, rules, notes),
    agentState(flags.socket).catch(() => undefined),
  ]);
  const podNetworks = (agent?.state?.network?.families ?? []).map(({ network }) => network.text);
  const nodes = (agent?.state?.leases ?? []).flatMap(({ families }) =>
    families.map(({ publicIp }) => publicIp.text),
  );
  return { node: agent?.state?.node, pods: named, services: ways, headless, podNetworks, nodes, notes };
}
