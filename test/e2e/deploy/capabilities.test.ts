import assert from 'node:assert/strict';
import { chmodSync, chownSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { type Deployment, startDeployment, stopDeployment } from '../../lab/deployment.ts';
import { httpAnswer } from '../../lab/http.ts';
import { type ManifestContainer, type PodSpec, podSpecOf, readManifests } from '../../lab/manifests.ts';

const manifests = readManifests('daemonset.yaml');
const agentPod = podSpecOf(manifests, 'twill-agent');
const proxyPod = podSpecOf(manifests, 'twill-proxy');

/** Somebody who is neither root nor known. */
const STRANGER = 12345;

interface Loss {
  readonly pod: PodSpec;
  readonly container: ManifestContainer;
  readonly capability: string;
  /** Where it is not what the manifest says. */
  readonly args?: readonly string[];
  /** What it says then. */
  readonly says: RegExp;
}

const cleanupPod = podSpecOf(readManifests('daemonset-cleanup.yaml'), 'twill-cleanup');
const cleanup = cleanupPod.initContainers!.find(({ name }) => name === 'cleanup')!;
const [agent] = agentPod.containers as [ManifestContainer];
const [proxy] = proxyPod.containers as [ManifestContainer];
const installCni = agentPod.initContainers!.find(({ name }) => name === 'install-cni')!;

/** On this node they would take nftables, which needs less. */
const byIptables = [...(proxy.args ?? []), '--proxy-mode=iptables'];
const agentByIptables = [...(agent.args ?? []), '--rules=iptables'];

const losses: readonly Loss[] = [
  {
    pod: agentPod,
    container: agent,
    capability: 'NET_ADMIN',
    args: agentByIptables,
    says: /neither iptables-nft nor iptables-legacy works/,
  },
  {
    pod: agentPod,
    container: agent,
    capability: 'NET_RAW',
    args: agentByIptables,
    says: /iptables-legacy does not work here/,
  },
  { pod: agentPod, container: agent, capability: 'DAC_OVERRIDE', says: /cannot write the CNI configuration/ },
  {
    pod: proxyPod,
    container: proxy,
    capability: 'NET_ADMIN',
    args: byIptables,
    says: /neither iptables-nft nor iptables-legacy works/,
  },
  {
    pod: proxyPod,
    container: proxy,
    capability: 'NET_RAW',
    args: byIptables,
    says: /iptables-legacy does not work here/,
  },
  { pod: agentPod, container: installCni, capability: 'DAC_OVERRIDE', says: /cannot install the CNI plugin/ },
];

describe('on a node with iptables-legacy whose CNI directories are somebody else’s', () => {
  let deployment: Deployment;

  before(async () => {
    deployment = await startDeployment({ manifests, nodes: 1 });
    const { lab, runtimes } = deployment;
    for (const pod of [agentPod, proxyPod]) await runtimes[0]!.initialize(pod);
    // What a kubelet leaves there has everybody use that variant.
    await lab.nodes[0]!.exec('iptables-legacy', ['-t', 'mangle', '-N', 'KUBE-KUBELET-CANARY']);
    await lab.nodes[0]!.exec('ip6tables-legacy', ['-t', 'mangle', '-N', 'KUBE-KUBELET-CANARY']);
    for (const path of ['/opt/cni/bin', '/etc/cni/net.d']) {
      const directory = runtimes[0]!.hostPath(path);
      mkdirSync(directory, { recursive: true });
      chownSync(directory, STRANGER, STRANGER);
      chmodSync(directory, 0o755);
    }
  });
  after(() => stopDeployment(deployment));

  for (const { pod, container, capability, args, says } of losses)
    it(`${container.name} without ${capability} does not do its work, and says why`, async () => {
      const { lab, runtimes } = deployment;
      // What another one has installed would not have to be.
      for (const path of ['/etc/cni/net.d/10-twill.conflist', '/opt/cni/bin/twill'])
        rmSync(runtimes[0]!.hostPath(path), { force: true });
      const started = await runtimes[0]!.start(pod, container, {
        withoutCapability: capability,
        ...(args === undefined ? {} : { args }),
      });
      try {
        await lab.waitFor('it to say why', () => says.test(started.log()), {
          explain: () => started.tail(),
        });
      } finally {
        await started.stop();
      }
    });

  it('the agent without SYS_ADMIN starts, and wires no pod', async () => {
    const { lab, runtimes } = deployment;
    const started = await runtimes[0]!.start(agentPod, agent, { withoutCapability: 'SYS_ADMIN' });
    await runtimes[0]!.probe(agent, started, 'readinessProbe');
    const socket = `${runtimes[0]!.hostPath('/run/twill')}/cni.sock`;
    const added = lab.nodes[0]!.addPod('pod', { socket });
    await assert.rejects(added, /enter network namespace.*EPERM/).finally(() => started.stop());
  });

  it('with all that it says everything works', async () => {
    const { lab, runtimes } = deployment;
    const [runtime] = runtimes;
    const running = [
      [agent, await runtime!.start(agentPod, agent, { args: agentByIptables })],
      [proxy, await runtime!.start(proxyPod, proxy, { args: byIptables })],
    ] as const;
    for (const [container, started] of running) await runtime!.probe(container, started, 'readinessProbe');
    assert.match(await lab.nodes[0]!.exec('iptables-legacy-save', []), /KUBE-SERVICES/);
    const socket = `${runtime!.hostPath('/run/twill')}/cni.sock`;
    await lab.nodes[0]!.addPod('pod', { socket });
    for (const [, started] of running) await started.stop();
  });

  const agentByNftables = [...(agent.args ?? []), '--rules=nftables'];

  it('the agent with --rules=nftables without NET_ADMIN does not do its work, and says why', async () => {
    const { lab, runtimes } = deployment;
    const changes = { args: agentByNftables, withoutCapability: 'NET_ADMIN' };
    const started = await runtimes[0]!.start(agentPod, agent, changes);
    const saysWhy = (): boolean =>
      /CAP_NET_ADMIN|Operation not permitted|Permission denied/.test(started.log());
    try {
      await lab.waitFor('it to say why', saysWhy, { explain: () => started.tail() });
      const { port, path } = agent.readinessProbe!.httpGet;
      assert.match(await httpAnswer(lab.nodes[0]!.namespace, port, path), /^HTTP\/1\.1 503 /);
    } finally {
      await started.stop();
    }
  });

  it('the agent with --rules=nftables without NET_RAW works, and names the rules of iptables-legacy, which stay', async () => {
    const { lab, runtimes } = deployment;
    const changes = { args: agentByNftables, withoutCapability: 'NET_RAW' };
    const started = await runtimes[0]!.start(agentPod, agent, changes);
    const named =
      /iptables-legacy: chains for the traffic of pods removed, if there are any: .*Permission denied/;
    try {
      await runtimes[0]!.probe(agent, started, 'readinessProbe');
      await lab.waitFor('it to name them', () => named.test(started.log()), {
        explain: () => started.tail(),
      });
      const { port, path } = agent.readinessProbe!.httpGet;
      assert.match(await httpAnswer(lab.nodes[0]!.namespace, port, path), named);
      assert.match(await lab.nodes[0]!.exec('nft', ['list', 'table', 'ip', 'flannel-ipv4']), /masquerade/);
      assert.match(await lab.nodes[0]!.exec('iptables-legacy-save', []), /FLANNEL-POSTRTG/);
    } finally {
      await started.stop();
    }
  });

  it('the agent with --rules=nftables and all that it has removes them', async () => {
    const { lab, runtimes } = deployment;
    const started = await runtimes[0]!.start(agentPod, agent, { args: agentByNftables });
    try {
      await lab.waitFor(
        'the rules of iptables to be gone',
        async () => !/FLANNEL/.test(await lab.nodes[0]!.exec('iptables-legacy-save', [])),
        { explain: () => started.tail() },
      );
    } finally {
      await started.stop();
    }
  });

  const byNftables = [...(proxy.args ?? []), '--proxy-mode=nftables'];

  it('the proxy in mode nftables without NET_ADMIN ends, and says why', async () => {
    const { lab, runtimes } = deployment;
    const changes = { args: byNftables, withoutCapability: 'NET_ADMIN' };
    const started = await runtimes[0]!.start(proxyPod, proxy, changes);
    await lab.waitFor('it to end', () => !started.running, { explain: () => started.tail() });
    assert.match(started.log(), /nft refused the rules: .*Operation not permitted/);
  });

  it('the proxy in mode nftables without NET_RAW serves, and names the rules of iptables-legacy, which stay', async () => {
    const { lab, runtimes } = deployment;
    const changes = { args: byNftables, withoutCapability: 'NET_RAW' };
    const started = await runtimes[0]!.start(proxyPod, proxy, changes);
    const named = /iptables-legacy: chains of the proxy removed, if there are any: .*Permission denied/;
    try {
      await lab.waitFor('it to name them', () => named.test(started.log()), {
        explain: () => started.tail(),
      });
      const { port, path } = proxy.readinessProbe!.httpGet;
      const ready = (): Promise<string> => httpAnswer(lab.nodes[0]!.namespace, port, path);
      await lab.waitFor('readyz to name them', async () => named.test(await ready()));
      assert.match(await lab.nodes[0]!.exec('iptables-legacy-save', []), /KUBE-SERVICES/);
    } finally {
      await started.stop();
    }
  });

  it('the proxy has enough for mode nftables, which it takes by itself', async () => {
    const { lab, runtimes } = deployment;
    const [runtime] = runtimes;
    const started = await runtime!.start(proxyPod, proxy);
    try {
      await runtime!.probe(proxy, started, 'readinessProbe');
      const table = await lab.nodes[0]!.exec('nft', ['list', 'table', 'ip', 'twill-services']);
      assert.match(table, /map services/);
      await lab.waitFor(
        'the rules of mode iptables to be gone',
        async () => !/KUBE-SERVICES/.test(await lab.nodes[0]!.exec('iptables-legacy-save', [])),
        { explain: () => started.tail() },
      );
    } finally {
      await started.stop();
    }
  });

  const cleanupLosses: readonly (readonly [capability: string, says: RegExp])[] = [
    ['DAC_OVERRIDE', /not done: .*10-twill\.conflist: removed: EACCES/],
    [
      'NET_RAW',
      /not done: .*iptables-legacy: chains of the proxy removed, if there are any: .*Permission denied/,
    ],
    ['NET_ADMIN', /not done: .*nftables table ip twill-services removed: .*Operation not permitted/],
  ];

  for (const [capability, says] of cleanupLosses)
    it(`cleanup without ${capability} names what it cannot take away`, async () => {
      const { runtimes } = deployment;
      await runtimes[0]!.runToEnd(cleanupPod, cleanupPod.initContainers![0]!);
      writeFileSync(join(runtimes[0]!.hostPath('/etc/cni/net.d'), '10-twill.conflist'), '{"type":"twill"}');
      const changes = { args: [...(cleanup.args ?? []), '--force'], withoutCapability: capability };
      await assert.rejects(runtimes[0]!.runToEnd(cleanupPod, cleanup, changes), says);
    });

  it('no container has a capability that is not in this file, but for modules, which another kernel has (e2e/hosts)', () => {
    const named = new Set(losses.map(({ container, capability }) => `${container.name} ${capability}`));
    named.add('agent SYS_ADMIN').add('load-modules SYS_MODULE');
    for (const [capability] of cleanupLosses) named.add(`cleanup ${capability}`);
    const has = [agentPod, proxyPod, cleanupPod].flatMap(({ initContainers = [], containers }) =>
      [...initContainers, ...containers].flatMap(({ name, securityContext }) =>
        (securityContext?.capabilities?.add ?? []).map((capability) => `${name} ${capability}`),
      ),
    );
    assert.deepEqual(new Set(has), named);
  });
});
