import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { root } from '../../lab/files.ts';
import { LabProcess } from '../../lab/process.ts';
import { clusterAssets } from '../../lab/real/assets.ts';
import { Cluster } from '../../lab/real/cluster.ts';
import type { KubeNode } from '../../lab/real/kube-node.ts';
import {
  askForEver,
  askOnce,
  client,
  hostPort,
  isReady,
  nodePort,
  type PodStatus,
  server,
  service,
  since,
} from './objects.ts';

const assets = clusterAssets(process.env);
const manifest = join(root, 'daemonset.yaml');
const cleanupManifest = join(root, 'daemonset-cleanup.yaml');
const ofTwill = 'app in (twill-agent, twill-proxy)';

/**
 * What is on a node, as far as a pod network changes it, in lines of no order: others write there, too. Empty chains that
 * iptables has anyway are not among it, nor the folders that the kubelet made for the last pod.
 */
async function standing({ host }: KubeNode): Promise<string[]> {
  const files = 'find /etc/cni /opt/cni; ls -A /run/twill /run/flannel 2>/dev/null | grep -v :$';
  const rules = ['iptables-save', 'ip6tables-save', 'nft list tables'];
  const commands = ['ip -o link | cut -d: -f2', 'ip route', 'ip rule', ...rules, files];
  const { stdout } = await host.run('sh', ['-c', commands.join('; ')]);
  // Counters, and the rules' own words about the time.
  const lines = stdout.replaceAll(/\[\d+:\d+\]|^#.*$/gm, '').split('\n');
  return [...new Set(lines)].sort();
}

function checks(): void {
  let cluster: Cluster;
  let first: string[][];
  let outside: LabProcess;

  const podsOf = async (selector: string, namespace = 'default'): Promise<PodStatus[]> =>
    (await cluster.get<{ items: PodStatus[] }>('pods', '-n', namespace, '-l', selector)).items;
  const exec = (pod: string, ...command: string[]): Promise<string> =>
    cluster.kubectl('exec', pod, '--', ...command);
  const ask = async (pod: string, target: string): Promise<string> =>
    (await exec(pod, 'sh', '-c', askOnce(target))).trim();
  /** Runs the program in the agent of a node, where an operator would. */
  const twill = async (node: string, ...args: string[]): Promise<string> => {
    const agents = await podsOf('app=twill-agent', 'twill');
    const agent = agents.find(({ spec }) => spec.nodeName === node)!;
    const where = ['-n', 'twill', '-c', 'agent', agent.metadata.name];
    return await cluster.kubectl('exec', ...where, '--', 'twill', ...args);
  };

  before(async () => {
    cluster = await Cluster.start(assets!, 2);
    first = await Promise.all(cluster.nodes.map(standing));
  });
  after(() => cluster?.stop());

  it('daemonset.yaml is applied unedited, without a warning, and the pods that waited for a network run', async (context) => {
    const names = cluster.nodes.map(({ node }) => node.name);
    await cluster.apply(service, ...names.map((name) => server(name)));
    assert.doesNotMatch(await cluster.kubectl('apply', '-f', manifest), /warn/i);
    await cluster.waitFor('the pods', async () => (await podsOf('app=web')).every(isReady));
    await cluster.waitFor('the agents and proxies to be ready', async () => {
      const pods = await podsOf(ofTwill, 'twill');
      return pods.length === 4 && pods.every(isReady);
    });
    const [agents, servers] = await Promise.all([podsOf('app=twill-agent', 'twill'), podsOf('app=web')]);
    for (const agent of agents) {
      const waited = servers.find(({ spec }) => spec.nodeName === agent.spec.nodeName)!;
      context.diagnostic(
        `${agent.spec.nodeName}: from its pod to the agent ${since(agent)} s, from the agent to the pod ${since(waited, agent)} s`,
      );
    }
    // The runtime got its configuration when pods could be wired, not before: nothing had to be tried again.
    const events = await cluster.kubectl('get', 'events', '-A');
    assert.doesNotMatch(events, /FailedCreatePodSandBox|BackOff/, events);
    for (const pod of await podsOf(ofTwill, 'twill'))
      assert.equal(pod.status.containerStatuses![0]!.restartCount, 0);
  });

  it('the API server finds nothing wrong with the policy’s types', async () => {
    const policy = await cluster.get<{ status: { typeChecking?: object } }>(
      'validatingadmissionpolicy/twill-agent',
    );
    assert.deepEqual(policy.status.typeChecking ?? {}, {});
  });

  it('pods reach each other across nodes, a Service by its address, its environment and its node port, and host ports', async () => {
    const [one, two] = cluster.nodes as [KubeNode, KubeNode];
    const pods = await podsOf('app=web');
    const far = pods.find(({ spec }) => spec.nodeName === two.node.name)!;
    assert.match(far.status.podIP!, /^10\.244\./);
    const targets = [
      `${far.status.podIP}:8080`,
      '$WEB_SERVICE_HOST:$WEB_SERVICE_PORT',
      `${two.node.ipv4}:${nodePort}`,
      `${two.node.ipv4}:${hostPort}`,
    ];
    await cluster.apply(client(one.node.name, targets), client(two.node.name, targets));
    await cluster.waitFor('the clients', async () => (await podsOf('app=client')).every(isReady));
    const name = `client-${one.node.name}`;
    assert.equal(await ask(name, `${far.status.podIP}:8080`), two.node.name);
    assert.equal(await ask(name, `${two.node.ipv4}:${hostPort}`), two.node.name);
    const clusterIP = (await exec(name, 'sh', '-c', 'echo $WEB_SERVICE_HOST')).trim();
    assert.match(clusterIP, /^10\.96\./);
    const answers = new Set<string>();
    await cluster.waitFor('answers of both', async () => {
      answers.add(await ask(name, `${clusterIP}:80`));
      return answers.size === 2;
    });
    const { client: place } = cluster.lab;
    outside = new LabProcess({
      name: 'client outside',
      namespace: place.namespace,
      program: '/bin/busybox',
      args: ['sh', '-c', askForEver(targets.slice(2))],
      cwd: cluster.lab.dir,
      logFile: join(cluster.lab.dir, 'outside.log'),
    });
    await outside.start();
    await cluster.waitFor('answers outside', async () => outside.log().split('\n').length > 6);
    assert.doesNotMatch(outside.log(), /FAILED/);
  });

  it('what an operator asks is answered in the containers', async () => {
    const [one, two] = cluster.nodes as [KubeNode, KubeNode];
    const far = (await podsOf('app=web')).find(({ spec }) => spec.nodeName === two.node.name)!;
    assert.match(await twill(one.node.name, 'status'), /overlay/);
    assert.match(await twill(one.node.name, 'routes'), /10\.244\./);
    assert.match(await twill(one.node.name, 'services'), /default\/web/);
    assert.match(await twill(one.node.name, 'pods'), /10\.244\./);
    const [near] = await podsOf('app=client');
    const trace = await twill(one.node.name, 'trace', near!.status.podIP!, `${far.status.podIP}:8080`);
    assert.match(trace, /flannel\.1/);
  });

  it('a rolling restart of both loses no request, and pods are made meanwhile', async () => {
    const names = cluster.nodes.map(({ node }) => node.name);
    await cluster.kubectl(
      '-n',
      'twill',
      'rollout',
      'restart',
      'daemonset/twill-agent',
      'daemonset/twill-proxy',
    );
    await cluster.apply(...names.map((name) => server(name, 'during')));
    for (const daemonSet of ['twill-agent', 'twill-proxy'])
      await cluster.kubectl('-n', 'twill', 'rollout', 'status', `daemonset/${daemonSet}`, '--timeout=120s');
    await cluster.waitFor('the pods made meanwhile', async () => {
      const pods = await podsOf('app=during');
      return pods.length === 2 && pods.every(isReady);
    });
    const logs = await Promise.all(names.map((name) => cluster.kubectl('logs', `client-${name}`)));
    for (const log of [...logs, outside.log()]) {
      assert.doesNotMatch(log, /FAILED/);
      assert.ok(log.split('\n').length > 100, log);
    }
    await outside.stop();
  });

  it('after the DaemonSets and the pods are deleted daemonset-cleanup.yaml leaves nothing', async () => {
    await cluster.kubectl('-n', 'twill', 'delete', 'daemonset', 'twill-agent', 'twill-proxy');
    await cluster.waitFor(
      'agents and proxies to end',
      async () => (await podsOf(ofTwill, 'twill')).length === 0,
    );
    await cluster.kubectl('delete', 'service,pods', '-l', 'app in (web, during, client)', '--wait=true');
    await cluster.kubectl('delete', 'service', 'web');
    assert.doesNotMatch(await cluster.kubectl('apply', '-f', cleanupManifest), /warn/i);
    await cluster.waitFor('the nodes to be clean', async () => {
      const pods = await podsOf('app=twill-cleanup', 'twill');
      return pods.length === 2 && pods.every(isReady);
    });
    await cluster.kubectl('delete', '--ignore-not-found', '-f', cleanupManifest, '-f', manifest);
    for (const [index, node] of cluster.nodes.entries()) assert.deepEqual(await standing(node), first[index]);
  });
}

if (assets === undefined)
  process.stdout.write('NOT RUN: a whole real cluster; set TEST_ASSETS_KUBERNETES for it\n');
else describe('a cluster of real kubelets with containerd', checks);
