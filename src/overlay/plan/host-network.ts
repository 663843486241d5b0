import type { Address, Family } from '../../model/address.ts';

/** How packets leave this machine for somewhere, as the kernel says when asked. */
export interface HostPath {
  readonly family: Family;
  /** Interface index of the device that the kernel would use. */
  readonly device: number;
  /** That device and others that serve as well: a route may have several next hops. */
  readonly devices: readonly number[];
  /** The source address that the kernel would use. */
  readonly source: Address | undefined;
  /** The source address that the route itself names. */
  readonly preferred: Address | undefined;
  readonly gateway?: Address | undefined;
}

/** Interface index of the VRF whose table says where packets from the device go; undefined for the usual tables. */
export function domainOf(
  links: readonly { readonly index: number; readonly kind: string | undefined; readonly master: number }[],
  device: number,
): number | undefined {
  const link = links.find(({ index }) => index === device);
  const domain = links.find(
    ({ index, kind }) => kind === 'vrf' && (index === device || index === link?.master),
  );
  return domain?.index;
}

/** What the kernel says about the node's interfaces, as far as the choice needs it. */
export interface HostNetwork {
  readonly links: readonly {
    readonly index: number;
    readonly name: string;
    readonly kind: string | undefined;
    readonly mtu: number;
    readonly up: boolean;
  }[];
  readonly addresses: readonly {
    readonly index: number;
    readonly address: Address;
    readonly length: number;
    /** RT_SCOPE_*: 0 is universe; those that are for this machine alone are left out. */
    readonly scope: number;
    /** IFA_F_* */
    readonly flags: number;
  }[];
  /** The way to the outside of each family that has one. */
  readonly outside: readonly HostPath[];
  /** The way to the address in --iface-can-reach. */
  readonly canReach: HostPath | undefined;
}

export type HostLink = HostNetwork['links'][number];
export type HostAddress = HostNetwork['addresses'][number];

export const isOne = (list: readonly Address[], { text }: Address): boolean =>
  list.some((one) => one.text === text);

/** Devices that nothing leaves by. */
export const goesNowhere = ({ name, kind }: HostLink): boolean =>
  name === 'lo' || kind === 'dummy' || kind === 'vrf';

export const linkOf = (host: HostNetwork, device: number | undefined): HostLink | undefined =>
  host.links.find(({ index }) => index === device);
