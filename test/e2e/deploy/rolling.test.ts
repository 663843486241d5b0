import assert from 'node:assert/strict';
import { join } from 'node:path';
import { it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { describeError } from '../../../src/model/error.ts';
import { type Deployment, startDeployment, stopDeployment } from '../../lab/deployment.ts';
import type { ApiObject } from '../../lab/kube-api.ts';
import { podSpecOf, readManifests } from '../../lab/manifests.ts';
import type { LabNode } from '../../lab/node.ts';
import { servicePort } from '../../lab/place.ts';
import type { Pod } from '../../lab/pod.ts';
import type { LabProcess } from '../../lab/process.ts';
import { serviceObject, sliceObject } from '../../lab/service-fixtures.ts';
import { GiveUp } from '../../lab/wait.ts';

const manifests = readManifests('daemonset.yaml');
const agentPod = podSpecOf(manifests, 'twill-agent');
const proxyPod = podSpecOf(manifests, 'twill-proxy');
const clusterIP = '10.96.0.10';
const hostPort = 18080;

/** Agents and proxies of the nodes. */
class Cluster {
  readonly deployment: Deployment;
  private readonly running = new Map<string, LabProcess>();

  constructor(deployment: Deployment) {
    this.deployment = deployment;
  }

  /** Ends what runs of a pod on a node, and starts it anew as a kubelet does, its init containers included. */
  async restart(index: number, which: 'agent' | 'proxy'): Promise<void> {
    const runtime = this.deployment.runtimes[index]!;
    const pod = which === 'agent' ? agentPod : proxyPod;
    const [container] = pod.containers;
    const key = `${which} ${index}`;
    await this.running.get(key)?.stop(pod.terminationGracePeriodSeconds! * 1000);
    await runtime.initialize(pod);
    const started = await runtime.start(pod, container!);
    this.running.set(key, started);
    await runtime.probe(container!, started, 'readinessProbe');
  }

  socket(node: LabNode): string {
    const runtime = this.deployment.runtimes[this.deployment.lab.nodes.indexOf(node)]!;
    return join(runtime.hostPath('/run/twill'), 'cni.sock');
  }

  /** As a runtime adds a pod: told to try again later, it does. */
  addPod(node: LabNode, name: string, config: object = {}): Promise<Pod> {
    let attempt = 0;
    return this.deployment.lab.waitFor(`the pod ${name}`, async () => {
      try {
        return await node.addPod(`${name}-${++attempt}`, { socket: this.socket(node), ...config });
      } catch (error) {
        if (!/"code": 11\b/.test(describeError(error))) throw new GiveUp(describeError(error));
        return undefined;
      }
    });
  }
}

it('all agents and proxies are changed one after the other: no request fails, and pods are made all the while', async () => {
  const deployment = await startDeployment({ manifests, nodes: 2 });
  try {
    const cluster = new Cluster(deployment);
    const { lab, api } = deployment;
    const [one, two] = lab.nodes as [LabNode, LabNode];
    await Promise.all(lab.nodes.map((_, index) => cluster.restart(index, 'agent')));
    await Promise.all(lab.nodes.map((_, index) => cluster.restart(index, 'proxy')));
    const near = await cluster.addPod(one, 'near');
    const portMappings = [{ hostPort, containerPort: servicePort, protocol: 'tcp' }];
    const far = await cluster.addPod(two, 'far', { runtimeConfig: { portMappings } });
    await far.serve();
    api.put(
      serviceObject('default/web', {
        clusterIP,
        ports: [{ name: 'http', port: 80 }],
      }) as unknown as ApiObject,
    );
    const target = [{ name: 'http', port: servicePort, protocol: 'TCP' }];
    api.put(sliceObject('default/web', target, [{ ip: far.ipv4, node: 'node2' }]) as unknown as ApiObject);
    const ways = [
      { from: near, address: far.ipv4, port: servicePort },
      { from: near, address: clusterIP, port: 80 },
      { from: lab.client, address: two.ipv4, port: hostPort },
    ];
    for (const { from, address, port } of ways)
      await lab.waitFor(`an answer from ${address}`, () =>
        from.probe.ask({ protocol: 'tcp', address, port, timeoutMs: 1000 }),
      );
    const streams = await Promise.all(
      ways.map(({ from, address, port }) =>
        from.probe.stream({ protocol: 'tcp', address, port, intervalMs: 20 }),
      ),
    );

    let rolling = true;
    const making = lab.nodes.map(async (node) => {
      const pods: Pod[] = [];
      while (rolling) {
        pods.push(await cluster.addPod(node, `new${pods.length}`));
        await sleep(100);
      }
      return pods;
    });
    try {
      for (const index of lab.nodes.keys())
        for (const which of ['agent', 'proxy'] as const) await cluster.restart(index, which);
    } finally {
      rolling = false;
    }
    const made = (await Promise.all(making)).flat();
    for (const [index, stream] of streams.entries()) {
      const { sent, received, error } = await stream.end();
      assert.deepEqual({ received, error }, { received: sent, error: undefined }, ways[index]!.address);
      assert.ok(sent > 50, String(sent));
    }
    assert.ok(made.length > 2, String(made.length));
    const addresses = made.map(({ ipv4 }) => ipv4);
    assert.equal(new Set(addresses).size, addresses.length);
    for (const pod of made.slice(-2)) {
      const answer = await pod.probe.ask({ protocol: 'tcp', address: clusterIP, port: 80 });
      assert.equal(answer.server, far.name);
    }
  } finally {
    await stopDeployment(deployment);
  }
});
