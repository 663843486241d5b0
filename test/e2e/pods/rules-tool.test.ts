import assert from 'node:assert/strict';
import { existsSync, mkdirSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { callCni } from '../../lab/cni.ts';
import { twillProgram } from '../../lab/files.ts';
import { defaultNetworkConfig, type Lab, withLab } from '../../lab/lab.ts';
import { Load } from '../../lab/load.ts';
import type { LabNode } from '../../lab/node.ts';
import type { Place } from '../../lab/place.ts';
import type { Pod } from '../../lab/pod.ts';

const ipv6Network = 'fd00:10:244::/48';
const options = {
  nodes: 1,
  networkConfig: { ...defaultNetworkConfig, EnableIPv6: true, IPv6Network: ipv6Network },
  clusterCidr: `${defaultNetworkConfig.Network},${ipv6Network}`,
};

const manifest = (endpoint: string) => `
apiVersion: v1
kind: Service
metadata: { name: web, namespace: default }
spec:
  type: NodePort
  clusterIP: 10.96.0.10
  clusterIPs: [10.96.0.10]
  ports: [{ name: http, port: 80, nodePort: 30080, protocol: TCP }]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: web-1, namespace: default, labels: { kubernetes.io/service-name: web } }
addressType: IPv4
ports: [{ name: http, port: 8080, protocol: TCP }]
endpoints: [{ addresses: [${endpoint}], conditions: { ready: true }, nodeName: node1 }]
`;

const runtimeConfig = {
  portMappings: [30080, 30081].map((hostPort) => ({ hostPort, containerPort: 8080, protocol: 'tcp' })),
};

async function answers(lab: Lab, node: LabNode, port: number, address = node.ipv4): Promise<string> {
  const target = { protocol: 'tcp', address, port, timeoutMs: 1000 } as const;
  const { server } = await lab.waitFor(`an answer on ${address} ${port}`, () => lab.client.probe.ask(target));
  return server;
}

/** What of host ports and pods' traffic stands, by what it is made of. */
async function made(node: LabNode): Promise<string> {
  const tables = await node.exec('nft', ['list', 'tables']);
  const saved = await node.exec('iptables-save', []);
  return [
    tables.includes('twill-hostports') ? 'host ports in nftables' : '',
    tables.includes('flannel-ipv4') ? 'traffic in nftables' : '',
    /CNI-HOSTPORT/.test(saved) ? 'host ports in iptables' : '',
    /FLANNEL|TWILL/.test(saved) ? 'traffic in iptables' : '',
  ]
    .filter((text) => text !== '')
    .join(', ');
}

const inNftables = 'host ports in nftables, traffic in nftables';
const inIptables = 'host ports in iptables, traffic in iptables';

const sctpProgram = join(import.meta.dirname, '../../lab/sctp-process.js');

/** Sends SCTP to a port of the node until it comes to the pod. */
async function reachesBySctp(lab: Lab, node: LabNode, pod: Pod, port: number): Promise<void> {
  const listener = pod.namespace.spawn(process.execPath, [sctpProgram, 'listen'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let heard = '';
  listener.stdout?.on('data', (chunk: Buffer) => {
    heard += chunk.toString();
  });
  await lab.waitFor('the listener', async () => heard.includes('ready'));
  const sender = lab.client.namespace.spawn(process.execPath, [sctpProgram, 'send', node.ipv4, String(port)]);
  await lab.waitFor('a packet', async () => heard.includes(`${lab.client.ipv4} 8080`));
  sender.kill();
  listener.kill();
}

async function check(node: LabNode, pod: Pod): Promise<string> {
  const config = { ...pod.config, prevResult: pod.result };
  const { containerId } = pod;
  const call = { command: 'CHECK', containerId, netns: pod.namespace.path, ifname: 'eth0', config };
  return (await callCni(node.namespace, call)).stdout;
}

async function twill(node: LabNode, ...args: readonly string[]): Promise<string> {
  const sockets = [`--socket=${node.cniSocket}`, `--proxy-socket=${node.proxySocket}`];
  const { stdout, stderr } = await node.namespace.run(process.execPath, [twillProgram, ...args, ...sockets]);
  return stdout + stderr;
}

describe('host ports', () => {
  it('come after Services, whatever either is made of, and no connection fails while that changes', async () => {
    await withLab(options, async (lab) => {
      const node = lab.nodes[0]!;
      await node.startAgent(['--rules=iptables']);
      const ported = await node.addPod('ported', { runtimeConfig });
      const backend = await node.addPod('backend');
      await Promise.all([ported.serve(), backend.serve()]);
      lab.writeManifest('web.yaml', manifest(backend.ipv4));
      await node.startProxy(['--proxy-mode=iptables']);
      assert.equal(await answers(lab, node, 30081), 'ported');
      const load = new Load(lab.client, { protocol: 'tcp', address: node.ipv4, port: 30081 });
      const load6 = new Load(lab.client, { protocol: 'tcp', address: node.ipv6, port: 30081 });
      for (const [rules, mode] of [
        ['iptables', 'iptables'],
        ['nftables', 'iptables'],
        ['nftables', 'nftables'],
        ['iptables', 'nftables'],
      ] as const) {
        await node.agent!.stop();
        await node.startAgent([`--rules=${rules}`]);
        const wanted = rules === 'nftables' ? inNftables : inIptables;
        await lab.waitFor(`only ${wanted}`, async () => (await made(node)) === wanted);
        await node.proxy!.stop();
        await node.startProxy([`--proxy-mode=${mode}`]);
        await lab.waitFor('the Service', async () => (await answers(lab, node, 30080)) === 'backend');
        assert.equal(await answers(lab, node, 30081), 'ported');
        assert.equal(await check(node, ported), '');
        assert.doesNotMatch(await twill(node, 'diff'), /host ports/);
        const way = await twill(node, 'trace', 'outside', 'node:30081', `--from-address=${lab.client.ipv4}`);
        assert.match(way, new RegExp(`${ported.ipv4}:8080`), way);
      }
      assert.deepEqual((await load.end()).failures, []);
      assert.deepEqual((await load6.end()).failures, []);
    });
  });

  it('in nftables are put right, gone with their pods, closed for conditions, and in the mode that auto comes to', async () => {
    await withLab(options, async (lab) => {
      const node = lab.nodes[0]!;
      await node.startAgent(['--rules=nftables']);
      const ported = await node.addPod('ported', { runtimeConfig });
      await ported.serve();
      const conditionsV4 = ['-s', `${lab.client.ipv4}/32`];
      await assert.rejects(
        node.addPod('conditioned', { runtimeConfig, conditionsV4 }),
        /conditionsV4: these are matches of iptables, and this node's rules are in nftables/,
      );
      assert.equal(await answers(lab, node, 30081), 'ported');
      assert.equal(await answers(lab, node, 30081, node.ipv6), 'ported');
      // What comes from near must return through the node: the pod itself, and the node by loopback.
      for (const [from, address] of [
        [ported, node.ipv4],
        [ported, node.ipv6],
        [node, '127.0.0.1'],
      ] as const)
        assert.equal((await from.probe.ask({ protocol: 'tcp', address, port: 30081 })).server, 'ported');
      const stands = async () => {
        const list = (family: string) => node.exec('nft', ['-s', 'list', 'table', family, 'twill-hostports']);
        return (await list('ip')) + (await list('ip6'));
      };
      const before = await stands();
      for (const command of [
        'flush ruleset',
        'flush chain ip twill-hostports hostports',
        'delete table ip6 twill-hostports',
      ]) {
        await node.exec('nft', command.split(' '));
        const right = async () => (await stands().catch(() => '')) === before;
        await lab.waitFor(`the table after ${command}`, right);
      }
      assert.match(await twill(node, 'status'), /rules +nftables: --rules says so/);
      await node.agent!.stop();
      await node.exec('nft', ['flush', 'chain', 'ip', 'twill-hostports', 'hostports']);
      assert.match(await twill(node, 'diff'), /twill-hostports/);
      await node.startAgent(['--rules=auto']);
      assert.equal(await answers(lab, node, 30081), 'ported');
      await lab.waitFor('nftables', async () => (await made(node)) === inNftables);
      const conditioned = await node.addPod('conditioned', {
        conditionsV4,
        runtimeConfig: { portMappings: [{ hostPort: 30082, containerPort: 8080, protocol: 'tcp' }] },
      });
      await conditioned.serve();
      await lab.waitFor('iptables', async () => (await made(node)) === inIptables);
      assert.equal(await answers(lab, node, 30082), 'conditioned');
      assert.match(await twill(node, 'status'), /rules +iptables: a pod's host ports have conditions/);
      await conditioned.remove();
      await lab.waitFor('nftables again', async () => (await made(node)) === inNftables);
      await node.exec('iptables', ['-P', 'FORWARD', 'DROP']);
      await ported.remove();
      await lab.waitFor('iptables for FORWARD', async () => (await made(node)) === 'traffic in iptables');
    });
  });

  it('in nftables are of every protocol and address, and are right again whatever is lost', async () => {
    await withLab(options, async (lab) => {
      const node = lab.nodes[0]!;
      await node.startAgent(['--rules=nftables']);
      const { ipv4, ipv6 } = node;
      const kinds = [
        { hostPort: 9001, protocol: 'tcp', hostIP: '0.0.0.0', on: [ipv4], not: [ipv6] },
        { hostPort: 9002, protocol: 'tcp', hostIP: '::', on: [ipv6], not: [ipv4] },
        { hostPort: 9003, protocol: 'TCP', hostIP: ipv6.toUpperCase(), on: [ipv6], not: [ipv4] },
        { hostPort: 9004, protocol: 'tcp', hostIP: `::ffff:${ipv4}`, on: [ipv4], not: [ipv6] },
        { hostPort: 9005, protocol: 'tcp', hostIP: '127.0.0.1', on: [], not: [ipv4, ipv6] },
        { hostPort: 9001, protocol: 'udp', hostIP: '', on: [ipv4, ipv6], not: [] },
        { hostPort: 9006, protocol: 'UDP', hostIP: ipv4, on: [ipv4], not: [ipv6] },
      ] as const;
      const portMappings = [...kinds, { hostPort: 9007, protocol: 'sctp', hostIP: '' }].map(
        ({ hostPort, protocol, hostIP }) => ({ hostPort, containerPort: 8080, protocol, hostIP }),
      );
      const pod = await node.addPod('kinds', { runtimeConfig: { portMappings } });
      await pod.serve();
      const ask = async (protocol: string, address: string, port: number, from: Place = lab.client) =>
        (
          await from.probe
            .ask({ protocol: protocol.toLowerCase() as 'tcp', address, port, timeoutMs: 500 })
            .catch(() => ({ server: 'nobody' }))
        ).server;
      const right = async () => {
        for (const { hostPort, protocol, on } of kinds)
          for (const address of on)
            await lab.waitFor(
              `${protocol} ${hostPort} on ${address}`,
              async () => (await ask(protocol, address, hostPort)) === 'kinds',
            );
        await lab.waitFor(
          'tcp 9005 on 127.0.0.1',
          async () => (await ask('tcp', '127.0.0.1', 9005, node)) === 'kinds',
        );
      };
      await right();
      for (const { hostPort, protocol, not } of kinds)
        for (const address of not)
          assert.equal(await ask(protocol, address, hostPort), 'nobody', `${hostPort} on ${address}`);
      await reachesBySctp(lab, node, pod, 9007);
      const list = async (family: string) =>
        await node.exec('nft', ['-s', 'list', 'table', family, 'twill-hostports']);
      const stands = async () => (await list('ip')) + (await list('ip6'));
      const before = await stands();
      // Each while the agent is away, killed, and then while it runs.
      for (const [what, ...command] of [
        ['the table sleeps', 'add', 'table', 'ip', 'twill-hostports', '{ flags dormant; }'],
        ['the table is deleted', 'delete', 'table', 'ip', 'twill-hostports'],
        [
          'a chain of the same name is something else',
          'flush',
          'table',
          'ip',
          'twill-hostports',
          ';',
          'add',
          'chain',
          'ip',
          'twill-hostports',
          'x',
        ],
        ['everything is flushed', 'flush', 'ruleset'],
      ] as const)
        for (const away of [true, false]) {
          if (away) await node.agent!.kill();
          await node.exec('nft', [command.join(' ')]);
          if (away) {
            assert.notEqual(await stands().catch(() => ''), before, what);
            await node.startAgent(['--rules=nftables']);
          }
          await lab.waitFor(
            `host ports after ${what}`,
            async () => (await stands().catch(() => '')) === before,
          );
        }
      await right();
      // Its state is lost: the rules themselves tell of it, but of which pod only its device does.
      await node.agent!.kill();
      rmSync(node.stateDir, { recursive: true });
      await node.startAgent(['--rules=nftables']);
      await right();
      assert.equal(await check(node, pod), '');
      assert.doesNotMatch(await twill(node, 'diff'), /host ports/);
      await pod.remove();
      await lab.waitFor(
        'the tables to go',
        async () => !(await node.exec('nft', ['list', 'tables'])).includes('hostports'),
      );
    });
  });

  it('and all else of the agent work on a node without iptables', async () => {
    await withLab(options, async (lab) => {
      const node = lab.nodes[0]!;
      const programs = join(node.dir, 'bin');
      mkdirSync(programs);
      symlinkSync(process.execPath, join(programs, 'node'));
      for (const name of ['nft', 'ip']) symlinkSync(join('/usr/sbin', name), join(programs, name));
      node.prefix = ['env', `PATH=${programs}`];
      await node.startAgent(['--rules=auto']);
      const ported = await node.addPod('ported', { runtimeConfig });
      await ported.serve();
      assert.equal(await answers(lab, node, 30081), 'ported');
      const target = { protocol: 'tcp', address: lab.client.ipv4, port: 8080 } as const;
      await lab.client.serve();
      assert.equal((await ported.probe.ask(target)).server, lab.client.name);
      assert.equal(await check(node, ported), '');
      await ported.remove();
      const tables = async () => node.exec('nft', ['list', 'tables']);
      await lab.waitFor('the table to go', async () => !(await tables()).includes('hostports'));
      assert.doesNotMatch(await tables(), /table ip6? (nat|filter|mangle)\b/);
      assert.ok(!existsSync(join(programs, 'iptables')));
    });
  });
});
