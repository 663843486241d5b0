import { setTimeout as sleep } from 'node:timers/promises';
import { type Lease, leaseFamily } from '../leases/plan/lease.ts';
import type { NetworkConfig } from '../leases/plan/network-config.ts';
import { type TrafficRules, trafficRules } from '../masquerade/plan/rules.ts';
import { type Address, type Family, parseCidr } from '../model/address.ts';
import { vxlanName } from '../overlay/plan/device.ts';
import type { PodRecord } from '../pods/plan/pod.ts';
import type { ReconcileLoop } from '../process/loop.ts';
import type { AgentConfig } from './config.ts';

/**
 * What is masqueraded of one family. Where flannel does not, its chain makes the bridge plugin do it unless `ipMasq` says
 * otherwise, and so it is here.
 */
function masqueraded(
  family: Family,
  config: AgentConfig,
  pods: readonly PodRecord[],
): boolean | { readonly except: readonly Address[] } {
  if (config.ipMasq) return true;
  if (pods.every(({ ipMasq }) => ipMasq === false)) return false;
  const except = exceptions(pods)
    .map((address) => parseCidr(address).address)
    .filter((address) => address.family === family)
    .sort((a, b) => (a.value < b.value ? -1 : 1));
  return { except };
}

function exceptions(pods: readonly PodRecord[]): string[] {
  return pods
    .filter(({ ipMasq }) => ipMasq === false)
    .flatMap(({ addresses }) => addresses.map(({ address }) => address));
}

const TRAFFIC_WAIT_MS = 10_000;

/** Knows whether the rules for pods' traffic are as the pods want them; most pods change nothing about these. */
export class PodTraffic {
  private readonly pods: () => readonly PodRecord[];
  private readonly loop: () => ReconcileLoop | undefined;
  /** What the pods wanted when the rules were last made. */
  private standing: string | undefined;

  /** @param pods none where their configurations have no say */
  constructor(pods: () => readonly PodRecord[], loop: () => ReconcileLoop | undefined) {
    this.pods = pods;
    this.loop = loop;
  }

  /** Resolves when the rules are as these pods want them, or have not become so for some seconds: the loop goes on. */
  async ready(): Promise<void> {
    const loop = this.loop();
    if (loop === undefined || this.pods().length === 0) return;
    const { pending, lastError } = loop.status();
    if (this.wanted() === this.standing && !pending && lastError === undefined) return;
    const done = loop.settled();
    loop.trigger('pods to masquerade', true);
    await Promise.race([done, sleep(TRAFFIC_WAIT_MS, undefined, { ref: false })]);
  }

  /** To be called when the rules are about to be made. */
  making(): void {
    this.standing = this.wanted();
  }

  private wanted(): string {
    const pods = this.pods();
    const some = pods.some(({ ipMasq }) => ipMasq !== false);
    return some ? `all but ${exceptions(pods).sort().join(' ')}` : '';
  }
}

/** The rules for pods' traffic that follow from the network configuration and the lease; none without either. */
export function wantedTraffic(
  network: NetworkConfig | undefined,
  own: Lease | undefined,
  config: AgentConfig,
  bridges: readonly string[],
  pods: readonly PodRecord[],
): TrafficRules[] {
  if (network === undefined || own === undefined) return [];
  const { families, backend } = network;
  const { forwardRules: forward, randomFully } = config;
  return families.flatMap(({ family, network: podNetwork }) => {
    const subnet = leaseFamily(own, family)?.subnet;
    if (subnet === undefined) return [];
    const vxlan =
      backend.type === 'vxlan' ? { port: backend.port, device: vxlanName(family, backend.vni) } : undefined;
    const masquerade = masqueraded(family, config, pods);
    const guard = { bridges, vxlan };
    return [trafficRules({ network: podNetwork, subnet, masquerade, forward, randomFully, guard })];
  });
}
