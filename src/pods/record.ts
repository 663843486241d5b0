import { createHash } from 'node:crypto';
import type { Netns } from '../kernel/netns.ts';
import { macFromBytes } from '../model/address.ts';
import { isoTime } from '../process/clock.ts';
import type { CniRequest } from './cni/call.ts';
import type { NetConf } from './cni/netconf.ts';
import type { Adopted } from './plan/adoption.ts';
import type { PodKey, PodRecord } from './plan/pod.ts';
import type { PodPlan } from './plan/wiring.ts';
import { podKeyText } from './store.ts';

/** Which attachment a request is about. */
export function keyOf(request: CniRequest): PodKey {
  return { network: request.config.name, containerId: request.containerId, ifname: request.ifname };
}

/** The host-side veth's name and MAC: the same for an attachment whenever it is asked for. */
export function hostEnd(key: PodKey): { readonly hostVeth: string; readonly hostMac: string } {
  const hash = createHash('sha256').update(podKeyText(key)).digest();
  const hostMac = macFromBytes(Uint8Array.of(0x0e, ...hash.subarray(8, 13)));
  return { hostVeth: `veth${hash.toString('hex').slice(0, 11)}`, hostMac };
}

/** The ifb device of the bandwidth plugin for an attachment (its `getIfbDeviceName`). */
export function pluginIfb({ network, containerId }: PodKey): string {
  return `bwp${createHash('sha512').update(`${network}${containerId}`).digest('hex').slice(0, 12)}`;
}

/** What is kept of one that was found: it is older than all that are made from now on. */
export function adoptedRecord(adopted: Adopted): PodRecord {
  return { ...adopted, order: 0, createdAt: isoTime() };
}

/** What a configuration wants of a pod that most do not: what is as usual is not kept. */
function unusual(
  { bridgeOptions, macSpoofCheck, ipMasq, hostPortOptions }: NetConf,
  plan: PodPlan,
): Partial<PodRecord> {
  return {
    ...(bridgeOptions.gateway ? {} : { gateway: false }),
    ...(bridgeOptions.promiscuous ? { promiscuous: true } : {}),
    ...(plan.isolated === true ? { isolated: true } : {}),
    ...(macSpoofCheck ? { spoofCheck: true } : {}),
    ...(plan.up ? {} : { up: false }),
    ...(ipMasq === undefined ? {} : { ipMasq }),
    ...(hostPortOptions === undefined ? {} : { hostPortOptions }),
  };
}

/** What is kept of an attachment that was made as `plan` says. */
export function makeRecord(
  request: CniRequest,
  netns: Netns,
  plan: PodPlan,
  own: Pick<PodRecord, 'bridge' | 'order'>,
): PodRecord {
  const { args, config } = request;
  const { K8S_POD_NAMESPACE: namespace, K8S_POD_NAME: name } = args;
  return {
    ...keyOf(request),
    netns: netns.path,
    netnsId: netns.id,
    addresses: plan.addresses.map(({ address, subnet, gateway }) => ({
      address: `${address.text}/${subnet.length}`,
      gateway: gateway.text,
    })),
    routes: plan.routes.map(({ destination }) => destination.text),
    mac: plan.mac,
    mtu: plan.mtu,
    hairpin: plan.hairpin,
    hostVeth: plan.hostVeth,
    ...own,
    portMappings: config.portMappings,
    bandwidth: config.bandwidth,
    ...unusual(config, plan),
    pod: name === undefined ? undefined : `${namespace ?? ''}/${name}`,
    createdAt: isoTime(),
  };
}
