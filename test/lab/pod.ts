import { TwillError } from '../../src/model/error.ts';
import { type CniCall, type CniResult, callCni } from './cni.ts';
import type { Guard } from './guard.ts';
import { Namespace } from './namespace.ts';
import { type Addresses, Place } from './place.ts';

function addressesOf(result: CniResult): Addresses {
  const addresses = result.ips?.map((ip) => ip.address.split('/')[0]!) ?? [];
  const ipv4 = addresses.find((address) => !address.includes(':'));
  const ipv6 = addresses.find((address) => address.includes(':'));
  return { ...(ipv4 === undefined ? {} : { ipv4 }), ...(ipv6 === undefined ? {} : { ipv6 }) };
}

/** The node that a pod is on, as far as its wiring needs it. */
interface PodHost extends Place {
  readonly guard: Guard;
  readonly agent: { tail(): string } | undefined;
  readonly pods: Pod[];
}

/** A pod wired by the CNI executable; its interface is `eth0`. */
export class Pod extends Place {
  readonly node: PodHost;
  readonly containerId: string;
  readonly config: object;
  readonly result: CniResult;

  private constructor(node: PodHost, namespace: Namespace, call: CniCall, name: string, result: CniResult) {
    super(name, namespace, addressesOf(result));
    this.node = node;
    this.containerId = call.containerId!;
    this.config = call.config as object;
    this.result = result;
  }

  /** @throws TwillError with the plugin's answer when ADD fails; the namespace is gone then */
  static async add(node: PodHost, name: string, config: object, podNamespace?: string): Promise<Pod> {
    const namespace = await Namespace.make(`${node.name}-${name}`, node.guard);
    const containerId = namespace.name;
    const args =
      podNamespace === undefined
        ? {}
        : { args: `IgnoreUnknown=1;K8S_POD_NAMESPACE=${podNamespace};K8S_POD_NAME=${name}` };
    const call = { command: 'ADD', containerId, netns: namespace.path, ifname: 'eth0', config, ...args };
    const { status, stdout, stderr } = await callCni(node.namespace, call);
    if (status !== 0) {
      await namespace.remove();
      const explanation = node.agent?.tail() ?? 'no agent was started';
      throw new TwillError('internal', `CNI ADD of ${name} failed: ${stdout}${stderr}\n${explanation}`);
    }
    return new Pod(node, namespace, call, name, JSON.parse(stdout) as CniResult);
  }

  /** Calls CNI DEL and removes the namespace, in the order of a runtime. @throws TwillError when DEL fails */
  async remove(): Promise<void> {
    const { status, stdout, stderr } = await callCni(this.node.namespace, {
      command: 'DEL',
      containerId: this.containerId,
      netns: this.namespace.path,
      ifname: 'eth0',
      config: this.config,
    });
    await this.namespace.remove();
    this.node.pods.splice(this.node.pods.indexOf(this), 1);
    if (status !== 0) throw new TwillError('internal', `CNI DEL of ${this.name} failed: ${stdout}${stderr}`);
  }
}
