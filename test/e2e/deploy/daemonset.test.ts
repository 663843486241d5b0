import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { type Deployment, startDeployment, stopDeployment } from '../../lab/deployment.ts';
import { twillProgram } from '../../lab/files.ts';
import { httpAnswer } from '../../lab/http.ts';
import { tokenOf } from '../../lab/kube-access.ts';
import type { ApiObject } from '../../lab/kube-api.ts';
import { kubeRequests } from '../../lab/kube-request.ts';
import { podSpecOf, readManifests } from '../../lab/manifests.ts';
import { servicePort } from '../../lab/place.ts';
import type { Pod } from '../../lab/pod.ts';
import type { PodRuntime } from '../../lab/pod-container.ts';
import type { LabProcess } from '../../lab/process.ts';
import { serviceObject, sliceObject } from '../../lab/service-fixtures.ts';
import { checkAdmission, type Patch } from './admission.ts';

const manifests = readManifests('daemonset.yaml');
const agentPod = podSpecOf(manifests, 'twill-agent');
const proxyPod = podSpecOf(manifests, 'twill-proxy');
const clusterIP = '10.96.0.10';

interface NodeObject {
  readonly metadata: { readonly annotations: Record<string, string> };
  readonly status: { readonly conditions: readonly { readonly type: string }[] };
}

describe('daemonset.yaml, unedited, on nodes that kubelets have just joined', () => {
  let deployment: Deployment;
  const agents: LabProcess[] = [];
  const proxies: LabProcess[] = [];
  const pods: Pod[] = [];

  const configuration = (runtime: PodRuntime): string =>
    join(runtime.hostPath('/etc/cni/net.d'), '10-twill.conflist');

  const nodeOf = (name: string): NodeObject => deployment.api.node(name) as unknown as NodeObject;

  before(async () => {
    deployment = await startDeployment({ manifests, nodes: 2 });
  });
  after(() => stopDeployment(deployment));

  it('the agents start: the API server is the kubelet’s, the network is kubeadm’s', async () => {
    await Promise.all(
      deployment.runtimes.map(async (runtime, index) => {
        await runtime.initialize(agentPod);
        assert.ok(existsSync(join(runtime.hostPath('/opt/cni/bin'), 'twill')));
        // A kubelet says that its node is ready when this file is there.
        assert.ok(!existsSync(configuration(runtime)));
        const [container] = agentPod.containers;
        const agent = await runtime.start(agentPod, container!);
        agents[index] = agent;
        await runtime.probe(container!, agent, 'startupProbe');
        await runtime.probe(container!, agent, 'readinessProbe');
        await runtime.probe(container!, agent, 'livenessProbe');
        assert.ok(existsSync(configuration(runtime)));
      }),
    );
    assert.match(
      agents[0]!.log(),
      new RegExp(
        `"url":"${deployment.api.url}","why":"server of '/etc/kubernetes/kubelet.conf' in /run/twill-api/kubeconfig"`,
      ),
    );
    const ready = await httpAnswer(deployment.lab.nodes[0]!.namespace, 10_269, '/readyz');
    assert.match(
      ready,
      /lease source: .*https:\/\/192\.0\.2\.1:\d+ \(server of '\/etc\/kubernetes\/kubelet\.conf'/,
    );
    assert.match(agents[0]!.log(), /"networks":\["10\.244\.0\.0\/16"\]/);
  });

  it('the configuration that the runtime gets is the ConfigMap’s, and a pod can be wired as soon as it is there', async () => {
    const { lab, runtimes } = deployment;
    for (const [index, node] of lab.nodes.entries()) {
      const runtime = runtimes[index]!;
      const list = JSON.parse(readFileSync(configuration(runtime), 'utf8')) as { plugins: object[] };
      assert.deepEqual(list.plugins, [
        { type: 'twill', capabilities: { portMappings: true, bandwidth: true } },
      ]);
      const socket = join(runtime.hostPath('/run/twill'), 'cni.sock');
      const pod = await node.addPod(`pod${index}`, { socket });
      await pod.serve();
      pods.push(pod);
    }
    const [near, far] = pods as [Pod, Pod];
    assert.match(near.ipv4, /^10\.244\.1\./);
    const answer = await lab.waitFor('an answer across nodes', () =>
      near.probe.ask({ protocol: 'tcp', address: far.ipv4, port: servicePort, timeoutMs: 1000 }),
    );
    assert.equal(answer.client, near.ipv4);
  });

  it('the proxies start the same way, take nftables, and serve', async () => {
    const { lab, api, runtimes } = deployment;
    const ports = [{ name: 'http', port: 80, nodePort: 30080 }];
    api.put(serviceObject('default/web', { type: 'NodePort', clusterIP, ports }) as unknown as ApiObject);
    const endpoints = [{ ip: pods[1]!.ipv4, node: 'node2' }];
    const target = [{ name: 'http', port: servicePort, protocol: 'TCP' }];
    api.put(sliceObject('default/web', target, endpoints) as unknown as ApiObject);
    await Promise.all(
      runtimes.map(async (runtime, index) => {
        await runtime.initialize(proxyPod);
        const [container] = proxyPod.containers;
        const proxy = await runtime.start(proxyPod, container!);
        proxies[index] = proxy;
        for (const kind of ['startupProbe', 'livenessProbe', 'readinessProbe'] as const)
          await runtime.probe(container!, proxy, kind);
      }),
    );
    const ask = (address: string, port: number, from: { probe: Pod['probe'] }) =>
      lab.waitFor(`an answer from ${address}`, () =>
        from.probe.ask({ protocol: 'tcp', address, port, timeoutMs: 1000 }),
      );
    assert.equal((await ask(clusterIP, 80, pods[0]!)).server, pods[1]!.name);
    assert.equal((await ask(lab.nodes[0]!.ipv4, 30080, lab.nodes[0]!)).server, pods[1]!.name);
    assert.equal((await ask(lab.nodes[0]!.ipv4, 30080, lab.client)).server, pods[1]!.name);
    for (const proxy of proxies) assert.match(proxy!.log(), /"mode":"nftables".*"the mode of the proxy"/);
  });

  it('status says which API server both ask, and who named it', async () => {
    const directory = deployment.runtimes[0]!.hostPath('/run/twill');
    const sockets = [`--socket=${directory}/cni.sock`, `--proxy-socket=${directory}/proxy.sock`];
    const args = ['status', '--output=json', ...sockets];
    const { stdout } = await deployment.lab.nodes[0]!.namespace.run(twillProgram, args);
    const { lease, proxy } = JSON.parse(stdout) as Record<'lease' | 'proxy', { source: string }>;
    const named = `${deployment.api.url} (server of '/etc/kubernetes/kubelet.conf' in /run/twill-api/kubeconfig)`;
    assert.equal(lease.source, `kubernetes at ${named}`);
    assert.equal(proxy.source, `Kubernetes API at ${named}`);
  });

  it('what is asked of the API is what is granted, neither more nor less', async () => {
    const { lab, access } = deployment;
    // A proxy is ready with what it has listed, and begins to watch then.
    await lab.waitFor('as much to be asked', () => access.used().length === access.granted().length);
    assert.deepEqual(access.refused, []);
    assert.deepEqual(access.used(), access.granted());
  });

  it('an agent’s token changes only the Node that its pod is on, and of it only what the agent writes', async () => {
    const { lab, api, access } = deployment;
    const send = (patches: readonly Patch[]) =>
      kubeRequests(
        lab,
        patches.map(({ token, node, body, type }) => ({
          url: `${api.url}/api/v1/nodes/${node}/status`,
          method: 'PATCH',
          headers: { authorization: `Bearer ${token}`, 'content-type': type },
          body: JSON.stringify(body),
        })),
        { NODE_TLS_REJECT_UNAUTHORIZED: '0' },
      );
    const before = access.refused.length;
    const tokens = { agent: tokenOf('twill-agent', 'node1'), proxy: tokenOf('twill-proxy', 'node1') };
    await checkAdmission({ send, tokens });
    access.refused.length = before;
    // Among what it may is to take its own words away: the agent that runs says them again.
    await lab.waitFor('the Node as it was', () => {
      const { metadata, status } = nodeOf('node1');
      const says = status.conditions.some(({ type }) => type === 'NetworkUnavailable');
      return says && 'flannel.alpha.coreos.com/backend-data' in metadata.annotations;
    });
  });

  it('SIGTERM ends them within the grace period, and the network stands', async () => {
    for (const [pod, started] of [
      [agentPod, agents],
      [proxyPod, proxies],
    ] as const) {
      for (const one of started) {
        await one.stop(pod.terminationGracePeriodSeconds! * 1000);
        assert.equal(one.exitCode, 0, one.tail());
      }
    }
    const answer = await pods[0]!.probe.ask({ protocol: 'tcp', address: clusterIP, port: 80 });
    assert.equal(answer.server, pods[1]!.name);
    for (const runtime of deployment.runtimes) assert.ok(existsSync(configuration(runtime)));
  });

  it('daemonset-cleanup.yaml takes it all off a node whose pods are gone, and refuses before', async () => {
    const all = [...manifests, ...readManifests('daemonset-cleanup.yaml')];
    const pod = podSpecOf(all, 'twill-cleanup');
    const { api, access, lab } = deployment;
    const [runtime] = deployment.runtimes;
    const [find, container] = pod.initContainers!;
    await runtime!.runToEnd(pod, find!);
    await assert.rejects(runtime!.runToEnd(pod, container!), /nothing was changed, for 1 pods are attached/);
    const force = { args: [...container!.args!, '--force'] };
    // Set by an administrator, for whoever comes next.
    const overwrite = 'flannel.alpha.coreos.com/public-ip-overwrite';
    const { annotations } = nodeOf('node1').metadata;
    const node1 = api.node('node1');
    const metadata = { ...node1.metadata, annotations: { ...annotations, [overwrite]: '192.0.2.77' } };
    api.put({ ...node1, kind: 'Node', metadata } as ApiObject);
    access.withheld = 'twill-agent: patch nodes/status';
    await assert.rejects(
      runtime!.runToEnd(pod, container!, force),
      /not done: Node node1: its lease taken away: .*cannot patch resource .*nodes\/status/,
    );
    access.withheld = undefined;
    assert.match(
      await runtime!.runToEnd(pod, container!, force),
      /^Node node1: its lease taken away: flannel\.alpha\.coreos\.com\/kube-subnet-manager, .*condition NetworkUnavailable$/m,
    );
    const left = nodeOf('node1');
    assert.deepEqual(left.metadata.annotations, { 'node.alpha/ttl': '0', [overwrite]: '192.0.2.77' });
    assert.deepEqual(
      left.status.conditions.map(({ type }) => type),
      ['Ready'],
    );
    assert.ok('flannel.alpha.coreos.com/backend-data' in nodeOf('node2').metadata.annotations);
    assert.deepEqual(access.refused.splice(0).length, 1);
    assert.deepEqual(readdirSync(runtime!.hostPath('/run/twill')), []);
    assert.doesNotMatch(await lab.nodes[0]!.exec('nft', ['list', 'tables']), /twill|flannel/);
    assert.ok(!existsSync(configuration(runtime!)));
    assert.ok(!existsSync(join(runtime!.hostPath('/opt/cni/bin'), 'twill')));
    assert.doesNotMatch(await deployment.lab.nodes[0]!.exec('ip', ['link']), /flannel|cni0|veth/);
  });
});
