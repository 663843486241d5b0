import type { Address } from '../../model/address.ts';
import {
  type ActualDevice,
  deviceRepairs,
  foreignAddresses,
  hasAddress,
  type Underlay,
  type VxlanPlan,
  vxlanChanges,
  whyRecreate,
} from '../../overlay/plan/device.ts';
import type { Difference } from './difference.ts';

/** A device as the kernel shows it. */
export interface SeenLink extends ActualDevice {
  readonly index: number;
  readonly name: string;
  readonly running: boolean;
}

export interface SeenAddress {
  readonly index: number;
  readonly address: Address;
  readonly length: number;
}

/** What the kernel shows of this node. */
export interface SeenNode {
  readonly links: readonly SeenLink[];
  readonly addresses: readonly SeenAddress[];
}

/** What is not as planned of a VXLAN device. */
export function deviceDifferences(plan: VxlanPlan, { links, addresses }: SeenNode): Difference[] {
  const { name } = plan;
  const base = { kind: 'device', object: name, show: `ip -d link show ${name}` } as const;
  const link = links.find((candidate) => candidate.name === name);
  if (link === undefined)
    return [
      { ...base, state: 'missing', detail: 'the VXLAN device is gone: no pod of another node is reached' },
    ];
  const why = whyRecreate(plan, link);
  const { reasons } = deviceRepairs(plan, link);
  const told = [...(why === undefined ? vxlanChanges(plan, link).reasons : [why]), ...reasons];
  const found = told.map((reason): Difference => {
    const wanted = reason.startsWith('MTU')
      ? `, should be ${plan.mtu}`
      : reason.startsWith('MAC')
        ? `, should be ${plan.mac}`
        : '';
    // The planner's words are of what it is about to put right.
    const now = reason.replace(/\bwas\b/, 'is');
    return {
      ...base,
      state: 'wrong',
      detail: `${now === 'it is down' ? 'the device is down' : now}${wanted}`,
    };
  });
  const present = addresses.filter(({ index }) => index === link.index);
  const show = `ip address show dev ${name}`;
  if (!hasAddress(plan, present))
    found.push({ ...base, show, state: 'missing', detail: `its address ${plan.address.text} is gone` });
  for (const { address, length } of foreignAddresses(plan, present))
    found.push({
      ...base,
      show,
      state: 'foreign',
      detail: `the address ${address.text}/${length} does not belong there`,
    });
  return found;
}

/** What has become of the interface between the nodes. */
export function underlayDifferences(underlay: Underlay, { links, addresses }: SeenNode): Difference[] {
  const { name } = underlay;
  const base = { kind: 'underlay', object: name, show: `ip link show ${name}` } as const;
  const link = links.find((candidate) => candidate.name === name);
  if (link === undefined)
    return [{ ...base, state: 'missing', detail: 'the interface between the nodes is gone' }];
  const found: Difference[] = [];
  if (!link.up) found.push({ ...base, state: 'wrong', detail: 'the interface between the nodes is down' });
  else if (!link.running)
    found.push({ ...base, state: 'wrong', detail: 'the interface between the nodes has no carrier' });
  if (link.mtu < underlay.mtu)
    found.push({
      ...base,
      state: 'wrong',
      detail: `its MTU is ${link.mtu}, and the overlay is made for ${underlay.mtu}: larger packets between nodes are lost`,
    });
  for (const address of underlay.addresses.values())
    if (!addresses.some((one) => one.address.text === address.text))
      found.push({
        ...base,
        show: 'ip address',
        state: 'missing',
        detail: `this node's address ${address.text} is gone: other nodes send to it`,
      });
  return found;
}
