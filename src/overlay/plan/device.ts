import { type Backend, leastMtu, type NetworkConfig } from '../../leases/plan/network-config.ts';
import {
  type Address,
  type Family,
  ipv4,
  makePrefix,
  type Prefix,
  prefixContains,
  prefixHost,
} from '../../model/address.ts';

/** The underlay interface that carries the overlay, and this node's addresses on it. */
export interface Underlay {
  readonly name: string;
  /** Interface index. */
  readonly index: number;
  /** Largest packet in bytes that reaches every node. */
  readonly mtu: number;
  /** Our address by family name: the source of encapsulated packets. */
  readonly addresses: ReadonlyMap<Family['name'], Address>;
  /** Networks that its addresses are in. */
  readonly networks: readonly Prefix[];
  /** Families whose packets leave by it alone and whose address is on it. */
  readonly carries: readonly Family['name'][];
  /** How it was chosen, for people. */
  readonly why: string;
}

/** A VXLAN device as it should be. */
export interface VxlanPlan {
  readonly family: Family;
  readonly name: string;
  readonly vni: number;
  readonly port: number;
  readonly local: Address | undefined;
  /** The one device that encapsulated packets may leave by; 0 where the routes decide. */
  readonly underlayIndex: number;
  readonly learning: boolean;
  readonly gbp: boolean;
  /** Nodes that are reached without the tunnel may send through it all the same. */
  readonly direct: boolean;
  readonly mac: string;
  readonly mtu: number;
  /** The device's only address in the pod network: a /32 or /128, so that no broadcast routes come with it. */
  readonly address: Address;
  /** Other addresses in this network are removed from the device. */
  readonly network: Prefix;
}

type VxlanBackend = Extract<Backend, { type: 'vxlan' }>;

/** flannel's names: `flannel.1`, over IPv6 `flannel-v6.1`. */
export function vxlanName(family: Family, vni: number): string {
  return family === ipv4 ? `flannel.${vni}` : `flannel-v6.${vni}`;
}

/** True for a name that {@link vxlanName} makes. */
export function isOverlayName(name: string): boolean {
  return /^flannel(-v6)?\.\d+$/.test(name);
}

/**
 * MTU for one family's VXLAN device: the underlay's, or a smaller one that is configured, less the encapsulation. The
 * kernel lets no VXLAN device have more than its underlay carries (vxlan_change_mtu).
 */
function vxlanMtu(family: Family, backend: VxlanBackend, underlay: Underlay): number {
  return Math.min(backend.mtu ?? underlay.mtu, underlay.mtu) - family.vxlanOverhead;
}

/**
 * MTU for pods: the smallest over all families, since one pod interface carries them all. With less than the families need,
 * the kernel would take IPv6 off the bridge and the pods' devices; larger packets it sends in fragments.
 */
export function podMtu(families: readonly Family[], backend: Backend, underlay: Underlay): number {
  if (backend.type !== 'vxlan') return underlay.mtu;
  const carried = Math.min(...families.map((family) => vxlanMtu(family, backend, underlay)));
  return Math.max(carried, leastMtu(families, false));
}

/** IFNAMSIZ less the byte that ends the text (include/uapi/linux/if.h). */
const LONGEST_NAME = 15;

function nameTooLong({ families, backend }: NetworkConfig): string | undefined {
  if (backend.type !== 'vxlan') return undefined;
  for (const { family } of families) {
    const name = vxlanName(family, backend.vni);
    if (name.length > LONGEST_NAME)
      return `Backend.VNI ${backend.vni} is too large for ${family.kubeName}: the device would be ${name}, and names have at most ${LONGEST_NAME} characters`;
  }
  return undefined;
}

/**
 * Why the overlay cannot work over this underlay with the configuration, with what to change.
 * @returns undefined when it can
 */
export function whyNotOver(underlay: Underlay, config: NetworkConfig): string | undefined {
  const { families, backend } = config;
  const all = families.map(({ family }) => family);
  const least = leastMtu(all, backend.type === 'vxlan');
  if (backend.type !== 'alloc' && underlay.mtu < least)
    return `${underlay.name} has an MTU of ${underlay.mtu}: at least ${least} is needed for ${all.map(({ kubeName }) => kubeName).join(' and ')}`;
  for (const { family, network, subnetLength, subnetMin, subnetMax } of families) {
    const last = prefixHost(makePrefix(subnetMax, subnetLength), -1);
    const around = underlay.networks.find(
      (direct) =>
        direct.family === family && prefixContains(direct, subnetMin) && prefixContains(direct, last),
    );
    if (around !== undefined)
      return `the pod network ${network.text} lies in ${around.text}, the network between the nodes: it has no subnet for pods`;
  }
  return nameTooLong(config);
}

export function planVxlan(options: {
  readonly family: Family;
  readonly backend: VxlanBackend;
  readonly underlay: Underlay;
  readonly mac: string;
  readonly subnet: Prefix;
  readonly network: Prefix;
}): VxlanPlan {
  const { family, backend, underlay, mac, subnet, network } = options;
  return {
    family,
    name: vxlanName(family, backend.vni),
    vni: backend.vni,
    port: backend.port,
    local: underlay.addresses.get(family.name),
    underlayIndex: underlay.carries.includes(family.name) ? underlay.index : 0,
    learning: backend.learning,
    gbp: backend.gbp,
    direct: backend.directRouting,
    mac,
    mtu: vxlanMtu(family, backend, underlay),
    address: subnet.address,
    network,
  };
}

/** What the kernel says about a device that bears the planned name. */
export interface ActualDevice {
  readonly kind: string | undefined;
  readonly up: boolean;
  readonly mtu: number;
  readonly mac: string;
  /** Interface index of the bridge or the like that it is a port of; 0 for none. */
  readonly master: number;
  readonly vxlan:
    | Pick<VxlanPlan, 'vni' | 'port' | 'local' | 'underlayIndex' | 'learning' | 'gbp'>
    | undefined;
}

const isAs = (name: string, want: unknown, have: unknown): string | undefined =>
  want === have ? undefined : `${name} is ${have}, should be ${want}`;

/**
 * Why the device must be made anew: parameters that the kernel does not change on a standing VXLAN device.
 * @returns undefined when it can be used
 */
export function whyRecreate(plan: VxlanPlan, actual: ActualDevice): string | undefined {
  const { vxlan } = actual;
  if (vxlan === undefined) return `it is of kind ${actual.kind ?? 'physical'}, not vxlan`;
  return (
    isAs('VNI', plan.vni, vxlan.vni) ??
    isAs('port', plan.port, vxlan.port) ??
    isAs('GBP', plan.gbp, vxlan.gbp) ??
    // An address of the other family, and whether it is bound at all.
    (plan.local?.family === vxlan.local?.family
      ? undefined
      : isAs('local address', plan.local?.text, vxlan.local?.text)) ??
    (plan.underlayIndex === 0 ? isAs('underlay interface', 0, vxlan.underlayIndex) : undefined)
  );
}

/** Parameters of a usable VXLAN device that must change, and that the kernel changes in place, each with its reason. */
export function vxlanChanges(
  plan: VxlanPlan,
  { vxlan }: ActualDevice,
): {
  readonly parameters: { local?: Address; underlayIndex?: number; learning?: boolean };
  readonly reasons: string[];
} {
  const { local, underlayIndex, learning } = plan;
  const address = isAs('local address', local?.text, vxlan?.local?.text);
  // A device that is bound to none can do all that a bound one can.
  const device =
    vxlan?.underlayIndex === 0 ? undefined : isAs('underlay interface', underlayIndex, vxlan?.underlayIndex);
  const learns = isAs('learning', learning, vxlan?.learning);
  return {
    parameters: {
      ...(address === undefined || local === undefined ? {} : { local }),
      ...(device === undefined ? {} : { underlayIndex }),
      ...(learns === undefined ? {} : { learning }),
    },
    reasons: [address, device, learns].filter((reason) => reason !== undefined),
  };
}

type DeviceSettings = { mac?: string; mtu?: number; up?: boolean; master?: number };

/** Settings of a usable device that must change, each with its reason. */
export function deviceRepairs(
  plan: VxlanPlan,
  actual: ActualDevice,
): { settings: DeviceSettings; reasons: string[] } {
  const settings: DeviceSettings = {};
  const reasons: string[] = [];
  if (actual.mac !== plan.mac) {
    settings.mac = plan.mac;
    reasons.push(`MAC address was ${actual.mac}`);
  }
  // With less than IPv6 needs the kernel takes it off the device, addresses, routes and all. What stands carries more than
  // nothing: packets too large for the underlay are sent in fragments.
  if (actual.mtu !== plan.mtu && plan.mtu >= leastMtu([plan.family], false)) {
    settings.mtu = plan.mtu;
    reasons.push(`MTU was ${actual.mtu}`);
  }
  // As a port it hands what arrives to its bridge, and to no route.
  if (actual.master !== 0) {
    settings.master = 0;
    reasons.push('it was a port of another device');
  }
  if (!actual.up) {
    settings.up = true;
    reasons.push('it was down');
  }
  return { settings, reasons };
}

/** Addresses of the device that do not belong: others in the pod network, as flannel removes them. */
export function foreignAddresses<T extends { readonly address: Address; readonly length: number }>(
  plan: VxlanPlan,
  present: readonly T[],
): T[] {
  return present.filter(
    ({ address, length }) =>
      prefixContains(plan.network, address) &&
      (address.value !== plan.address.value || length !== plan.family.bits),
  );
}

export function hasAddress(
  plan: VxlanPlan,
  present: readonly { readonly address: Address; readonly length: number }[],
): boolean {
  return present.some(
    ({ address, length }) =>
      address.family === plan.family && address.value === plan.address.value && length === plan.family.bits,
  );
}
