import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { twillProgram } from '../../lab/files.ts';
import { etcdPrefix, Lab } from '../../lab/lab.ts';
import type { LabNode } from '../../lab/node.ts';
import type { Pod } from '../../lab/pod.ts';
import { flannelLease } from '../overlay/state.ts';
import { type Command, mac, resume, type Scene } from './fault.ts';
import { podFaults, ruleFaults, serviceFaults } from './node-faults.ts';
import { deviceFaults, overlayFaults } from './overlay-faults.ts';

const service = (name: string, ip: string, spec: string, endpoints: string): string => `
apiVersion: v1
kind: Service
metadata: { name: ${name}, namespace: shop }
spec: { clusterIP: ${ip}, clusterIPs: [${ip}], ports: [{ port: 80, protocol: TCP${spec.includes('NodePort') ? ', nodePort: 30080' : ''} }]${spec} }
status: { loadBalancer: { ingress: [${name === 'guarded' ? '{ ip: 203.0.113.80 }' : ''}] } }
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: ${name}-1, namespace: shop, labels: { kubernetes.io/service-name: ${name} } }
addressType: IPv4
ports: [{ name: '', port: 8080, protocol: TCP }]
endpoints: [${endpoints}]
---
`;

function manifests(pod: Pod): string {
  const ready = '{ addresses: [10.244.40.5], nodeName: node9, conditions: { ready: true } }';
  const here = `{ addresses: [${pod.ipv4}], nodeName: node1, conditions: { ready: true } }`;
  return [
    service('web', '10.96.0.10', '', here),
    service('empty', '10.96.0.11', '', ''),
    service(
      'starting',
      '10.96.0.12',
      '',
      '{ addresses: [10.244.40.6], nodeName: node9, conditions: { ready: false } }',
    ),
    service('elsewhere', '10.96.0.13', ', type: NodePort, externalTrafficPolicy: Local', ready),
    service(
      'guarded',
      '10.96.0.14',
      ', type: LoadBalancer, loadBalancerSourceRanges: [203.0.113.0/24]',
      here,
    ),
  ].join('');
}

describe('every fault is named while agent and proxy are stopped', () => {
  let scene: Scene;

  const run = (command: Command, ...more: string[]) =>
    scene.node.namespace.run(process.execPath, [
      twillProgram,
      command,
      ...more,
      `--socket=${scene.node.cniSocket}`,
      `--proxy-socket=${scene.node.proxySocket}`,
    ]);

  const shell = async (script: string): Promise<void> => {
    const { status, stderr } = await scene.node.namespace.run('sh', [
      '-c',
      `cd ${scene.node.dir}\n${script}`,
    ]);
    assert.equal(status, 0, `${script}: ${stderr}`);
  };

  const signal = (name: 'SIGSTOP' | 'SIGCONT'): void => {
    for (const running of [scene.node.agent!, scene.node.proxy!]) process.kill(running.pid, name);
  };

  /** Agent and proxy have put right, and written down, everything. */
  const settle = async (): Promise<void> => {
    const { lab } = scene;
    await lab.waitFor('nothing to differ', async () => {
      const { status, stdout } = await run('diff');
      if (status === 0) return true;
      throw new Error(stdout);
    });
  };

  before(async () => {
    const lab = await Lab.start({ nodes: 2 });
    const [node, two] = lab.nodes as [LabNode, LabNode];
    for (const host of [40, 41, 42]) {
      const { key, value } = flannelLease(host, mac(host));
      await lab.etcd.put(key, value);
    }
    await Promise.all([node.startAgent(), two.startAgent()]);
    const pod = await node.addPod('web', {
      runtimeConfig: { portMappings: [{ hostPort: 8080, containerPort: 8080, protocol: 'tcp' }] },
    });
    lab.writeManifest('services.yaml', manifests(pod));
    await node.startProxy();
    const leases = await lab.etcd.keys(`${etcdPrefix}/subnets/`);
    const subnetOf = (ip: string): string =>
      leases
        .find(({ value }) => value.includes(`"${ip}"`))!
        .key.split('/')
        .at(-1)!
        .replace('-', '/');
    const veth = (pod.result as unknown as { interfaces: { name: string }[] }).interfaces.find(({ name }) =>
      name.startsWith('veth'),
    )!.name;
    const own = subnetOf('192.0.2.11').split('/')[0]!;
    scene = {
      lab,
      node,
      pod,
      veth,
      own,
      gateway: own.replace(/0$/, '1'),
    };
    const stateFile = (name: string): string => join(node.dir, `${name}-state.json`);
    await settle();
    await lab.waitFor('the state of both to be written down', () => {
      if (!existsSync(stateFile('proxy'))) return false;
      const text = readFileSync(stateFile('agent'), 'utf8');
      const known = JSON.parse(text) as { leases: unknown[]; rules: { wanted: unknown[] } };
      return (
        known.leases.length === 5 &&
        known.rules.wanted.length > 0 &&
        (JSON.parse(readFileSync(stateFile('proxy'), 'utf8')) as { ready: boolean }).ready
      );
    });
    await shell('iptables-nft-save > rules.saved');
    signal('SIGSTOP');
  });
  after(async () => {
    if (scene?.node.agent?.running) signal('SIGCONT');
    await scene?.lab.stop();
  });

  it('without a fault nothing differs, and the verdict says that they are stopped', async () => {
    const diff = await run('diff');
    assert.match(diff.stdout, /^all is as it should be\nthe agent \(process \d+\) is stopped by a signal/);
    assert.equal(diff.status, 0);
    const status = await run('status');
    assert.match(status.stdout, /^node1 is degraded: the agent \(process \d+\) is stopped by a signal/);
    assert.match(status.stdout, /degraded +proxy +the proxy \(process \d+\) is stopped/);
    assert.equal(status.status, 1);
    assert.equal((await run('routes')).status, 0);
  });

  for (const fault of [...overlayFaults, ...deviceFaults, ...podFaults, ...ruleFaults, ...serviceFaults]) {
    it(fault.name, async () => {
      await shell(fault.apply(scene));
      const { status, stdout, stderr } = await run(fault.by);
      // Columns and line breaks are for people.
      const said = stdout.replace(/\s+/g, ' ');
      const undo = fault.undo(scene);
      await shell(undo);
      if (undo === resume) {
        signal('SIGCONT');
        await settle();
        signal('SIGSTOP');
      }
      assert.match(said, fault.says(scene), stderr);
      assert.ok(status > 0, stdout);
    });
  }

  it('when all is undone and both go on nothing differs, and nothing is wrong', async () => {
    signal('SIGCONT');
    await settle();
    const status = await run('status', '-o', 'json');
    const { version, drift, problems, agent, proxy } = JSON.parse(status.stdout);
    assert.equal(version, 1);
    assert.deepEqual(drift, {});
    assert.ok(agent.answers && proxy.answers);
    // The agent has seen its device change five times, and says so.
    const wrong = (problems as { severity: string; area: string }[]).filter(
      ({ severity, area }) => severity !== 'note' && area !== 'contested',
    );
    assert.deepEqual(wrong, []);
  });

  it('diff --fix has agent and proxy put it right', async () => {
    signal('SIGSTOP');
    await shell('iptables-nft -t nat -F FLANNEL-POSTRTG; iptables-nft -t nat -F KUBE-POSTROUTING');
    const before = JSON.parse((await run('diff', '-o', 'json')).stdout) as { differences: unknown[] };
    assert.equal(before.differences.length, 2);
    const away = await run('diff', '--fix');
    assert.match(away.stdout.replace(/\s+/g, ' '), /0 put right, 2 differences left/);
    signal('SIGCONT');
    const { status, stdout } = await run('diff', '--fix');
    assert.match(stdout, /put right, all is as it should be\n/);
    assert.equal(status, 0);
  });

  it('what they put right is counted by its kind', async () => {
    const repairs = async (): Promise<Record<string, number>> =>
      JSON.parse((await run('status', '-o', 'json')).stdout).repairs;
    const before = await repairs();
    await shell(
      [
        `ip link set ${scene.veth} nomaster`,
        ...['CNI-HOSTPORT-TWILL', 'KUBE-POSTROUTING'].map((chain) => `iptables-nft -t nat -F ${chain}`),
      ].join('; '),
    );
    const { stdout } = await run('diff', '--fix');
    await settle();
    const now = await repairs();
    for (const kind of ['pods', 'rules', 'service rules'])
      assert.ok(now[kind]! > before[kind]!, `${kind}: ${JSON.stringify([before, now])}\n${stdout}`);
  });

  it('as JSON the answers have the fields that programs rely on', async () => {
    const shapes: Readonly<Record<Command | 'pods' | 'preflight', readonly string[]>> = {
      status: [
        ...['version', 'verdict', 'summary', 'node', 'problems', 'agent', 'proxy', 'lease', 'network'],
        ...['peers', 'addresses', 'repairs', 'drift', 'rules', 'versions'],
      ],
      routes: ['version', 'nodes', 'foreign'],
      diff: ['version', 'differences', 'unknown'],
      services: ['version', 'services'],
      pods: ['version', 'pods'],
      preflight: ['version', 'checks', 'failed', 'warnings'],
    };
    for (const [command, fields] of Object.entries(shapes)) {
      const answer = JSON.parse((await run(command as Command, '-o', 'json')).stdout);
      assert.equal(answer.version, 1);
      assert.deepEqual(Object.keys(answer).sort(), [...fields].sort(), command);
    }
    const one = JSON.parse((await run('services', 'shop/web', '-o', 'json')).stdout);
    const fields = ['endpoints', 'mode', 'rules', 'rulesKnown', 'service', 'version'];
    assert.deepEqual(Object.keys(one).sort(), fields);
    assert.ok(
      one.rules.some(({ rule }: { rule: string }) => rule.includes(`--to-destination ${scene.pod.ipv4}`)),
    );
  });

  it('--watch looks again until it is ended', async () => {
    const args = [twillProgram, 'routes', '-o', 'json', '--watch=0.1', `--socket=${scene.node.cniSocket}`];
    const child = scene.node.namespace.spawn(process.execPath, args, {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let said = '';
    child.stdout!.on('data', (chunk: Buffer) => {
      said += chunk.toString();
    });
    await scene.lab.waitFor('three answers', () => (said.match(/^\{$/gm)?.length ?? 0) >= 3);
    child.kill();
  });
});
