import { ask } from '../../src/inspect/client.ts';
import { twillProgram } from './files.ts';
import { NamespacedKubeApi } from './kube-api-client.ts';
import type { Lab } from './lab.ts';
import { putLeases } from './many-leases.ts';
import { benchNode, benchService, benchSlice } from './many-services.ts';
import type { LabNode } from './node.ts';
import { LabProcess } from './process.ts';
import { modeFlags, type RulesKind } from './service-lab.ts';
import { waitFor } from './wait.ts';

/** Objects that go to the server at once. */
const AT_ONCE = 500;

export interface BigNodeOptions {
  readonly leases: number;
  readonly services: number;
  /** Of each Service; default 5. */
  readonly endpoints?: number;
  readonly kind: RulesKind;
  readonly agentFlags?: readonly string[];
}

async function servicesStand(node: LabNode): Promise<boolean> {
  const text = await ask('proxy', node.proxySocket, { inspect: 'state' });
  return (JSON.parse(text) as { ready: boolean }).ready;
}

/** Fed by an API server: YAML files of that size take minutes to read. */
function proxyOf(node: LabNode, args: readonly string[]): LabProcess {
  const common = ['--cluster-cidr=10.0.0.0/8', '--hostname-override=node-0', '--log-format=pretty'];
  return new LabProcess({
    name: 'proxy',
    namespace: node.namespace,
    program: twillProgram,
    args: ['proxy', ...common, `--inspect-socket=${node.proxySocket}`, ...args],
    cwd: node.dir,
    logFile: `${node.dir}/proxy.log`,
  });
}

/**
 * Has the lab's first node be one of a large cluster, of a lab with {@link leasesNetwork}: agent and proxy run, and what
 * they write of that many leases and Services stands.
 * @returns the API server from which the proxy has its Services
 */
export async function startBigNode(lab: Lab, options: BigNodeOptions): Promise<NamespacedKubeApi> {
  const { leases, services, endpoints, kind, agentFlags = [] } = options;
  const node = lab.nodes[0]!;
  await putLeases(lab, leases);
  const api = await NamespacedKubeApi.start(node.namespace);
  for (let start = 0; start < services; start += AT_ONCE) {
    const indexes = Array.from({ length: Math.min(AT_ONCE, services - start) }, (_, index) => start + index);
    api.send({ put: indexes.flatMap((index) => [benchService(index), benchSlice(index, [], endpoints)]) });
  }
  // The chain by which kubelet tells which variant a node uses.
  if (kind === 'legacy') await node.exec('iptables-legacy', ['-t', 'mangle', '-N', 'KUBE-IPTABLES-HINT']);
  api.send({ put: [benchNode] });
  await node.startAgent(agentFlags, false);
  node.proxy = proxyOf(node, [...modeFlags(kind), `--master=${api.url}`]);
  await node.proxy.start();
  await node.agentReady();
  const explain = (): string => node.proxy!.tail();
  await waitFor('rules of all Services to stand', () => servicesStand(node), {
    timeoutMs: 300_000,
    explain,
  });
  return api;
}
