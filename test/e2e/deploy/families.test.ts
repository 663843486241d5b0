// daemonset.yaml, unedited, where IPv4 is not all there is.
import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import {
  type Deployment,
  type DeploymentOptions,
  startDeployment,
  stopDeployment,
  writeKubeletConfig,
} from '../../lab/deployment.ts';
import { httpAnswer } from '../../lab/http.ts';
import type { ApiObject } from '../../lab/kube-api.ts';
import { podSpecOf, readManifests } from '../../lab/manifests.ts';
import { servicePort } from '../../lab/place.ts';
import type { Pod } from '../../lab/pod.ts';
import { serviceObject, sliceObject } from '../../lab/service-fixtures.ts';

const manifests = readManifests('daemonset.yaml');
const clusterIPs = { ipv4: '10.96.0.10', ipv6: 'fd00:10:96::a' };

type FamilyName = NonNullable<DeploymentOptions['families']>[number];

/** Rolls agents, then proxies out. @returns what the first agent has logged */
async function rollOut({ runtimes }: Deployment): Promise<string> {
  let log = '';
  for (const name of ['twill-agent', 'twill-proxy']) {
    const pod = podSpecOf(manifests, name);
    const [container] = pod.containers;
    const started = await Promise.all(
      runtimes.map(async (runtime) => {
        await runtime.initialize(pod);
        const one = await runtime.start(pod, container!);
        for (const kind of ['startupProbe', 'livenessProbe', 'readinessProbe'] as const)
          await runtime.probe(container!, one, kind);
        return one;
      }),
    );
    if (name === 'twill-agent') log = started[0]!.log();
  }
  return log;
}

async function addPods({ lab, runtimes }: Deployment): Promise<Pod[]> {
  const pods: Pod[] = [];
  for (const [index, node] of lab.nodes.entries()) {
    const socket = join(runtimes[index]!.hostPath('/run/twill'), 'cni.sock');
    const pod = await node.addPod(`pod${index}`, { socket });
    await pod.serve();
    pods.push(pod);
  }
  return pods;
}

/** Pod to pod across nodes, by a Service, and from outside by a node port. */
async function checkTraffic(
  { lab, api }: Deployment,
  pods: Pod[],
  families: readonly FamilyName[],
): Promise<void> {
  const [near, far] = pods as [Pod, Pod];
  const ports = [{ name: 'http', port: 80, nodePort: 30080 }];
  const clusterIPsOf = families.map((family) => clusterIPs[family]);
  const ipFamilies = families.map((family) => (family === 'ipv4' ? 'IPv4' : 'IPv6'));
  const spec = { type: 'NodePort', clusterIP: clusterIPsOf[0], clusterIPs: clusterIPsOf, ipFamilies, ports };
  api.put(serviceObject('default/web', spec) as unknown as ApiObject);
  const target = [{ name: 'http', port: servicePort, protocol: 'TCP' }];
  for (const family of families) {
    const slice = sliceObject(`default/web/${family}`, target, [{ ip: far[family], node: 'node2' }]);
    api.put(slice as unknown as ApiObject);
  }
  for (const family of families)
    for (const [from, address, port] of [
      [near, far[family], servicePort],
      [near, clusterIPs[family], 80],
      [lab.client, lab.nodes[0]![family], 30080],
    ] as const) {
      const answer = await lab.waitFor(`an answer from ${address}`, () =>
        from.probe.ask({ protocol: 'tcp', address, port, timeoutMs: 1000 }),
      );
      assert.equal(answer.server, far.name);
    }
}

async function withDeployment(
  families: readonly FamilyName[],
  work: (deployment: Deployment) => Promise<void>,
): Promise<void> {
  const deployment = await startDeployment({ manifests, nodes: 2, families });
  try {
    await work(deployment);
  } finally {
    await stopDeployment(deployment);
  }
}

test('nodes that have IPv6 alone: rollout, pods, Services, node ports', () =>
  withDeployment(['ipv6'], async (deployment) => {
    const log = await rollOut(deployment);
    assert.match(
      log,
      /"url":"https:\/\/\[2001:db8:0:1::1\]:\d+","why":"server of '\/etc\/kubernetes\/kubelet\.conf'/,
    );
    assert.match(log, /"networks":\["fd00:10:244::\/56"\]/);
    const pods = await addPods(deployment);
    assert.match(pods[0]!.ipv6, /^fd00:10:244:1::/);
    await checkTraffic(deployment, pods, ['ipv6']);
  }));

test('both families, on nodes of k3s that were another cluster’s before, whose API server is gone', () =>
  withDeployment(['ipv4', 'ipv6'], async (deployment) => {
    const { lab, api, runtimes } = deployment;
    const k3s = '/var/lib/rancher/k3s/agent/kubelet.kubeconfig';
    const gone = 'https://192.0.2.1:1';
    for (const runtime of runtimes) {
      rmSync(runtime.hostPath('/etc/kubernetes'), { recursive: true });
      writeKubeletConfig(runtime, gone);
      writeKubeletConfig(runtime, api.url, k3s);
    }
    const log = await rollOut(deployment);
    assert.match(log, new RegExp(`"url":"${api.url}","why":"server of '${k3s}'`));
    assert.match(log, new RegExp(`"passedOver":\\["cannot reach ${gone} `));
    const ready = await httpAnswer(lab.nodes[0]!.namespace, 10_269, '/readyz');
    assert.match(ready, new RegExp(`lease source: .*${api.url} \\(server of '${k3s}'`));
    const pods = await addPods(deployment);
    await checkTraffic(deployment, pods, ['ipv4', 'ipv6']);
  }));
