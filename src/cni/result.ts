import type { PodPlan } from '../desired/pod-plan.ts';
import type { NetConf } from './netconf.ts';

export interface AddedPod {
  readonly plan: PodPlan;
  readonly netns: string;
  readonly bridge: string;
  readonly bridgeMac: string;
}

/** Position of the pod's own interface in the result's list. */
const POD_INTERFACE = 2;

/** The result of ADD in the shape of the configuration's version (CNI specification, section 5, "ADD Success"). */
export function addResult(config: NetConf, { plan, netns, bridge, bridgeMac }: AddedPod): object {
  const { cniVersion } = config;
  const before100 = cniVersion.startsWith('0.');
  const from110 = !before100 && cniVersion !== '1.0.0';
  return {
    cniVersion,
    interfaces: [
      { name: bridge, mac: bridgeMac },
      { name: plan.hostVeth, mac: plan.hostMac },
      { name: plan.ifname, mac: plan.mac, ...(from110 ? { mtu: plan.mtu } : {}), sandbox: netns },
    ],
    ips: plan.addresses.map(({ address, subnet, gateway }) => ({
      ...(before100 ? { version: address.family.bits === 32 ? '4' : '6' } : {}),
      interface: POD_INTERFACE,
      address: `${address.text}/${subnet.length}`,
      gateway: gateway.text,
    })),
    routes: plan.routes.map(({ destination, gateway }) => ({ dst: destination.text, gw: gateway.text })),
    dns: config.dns ?? {},
  };
}
