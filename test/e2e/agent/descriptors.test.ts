import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { stringify } from 'yaml';
import { callCni } from '../../lab/cni.ts';
import { httpStatus } from '../../lab/http.ts';
import { type Lab, withLab } from '../../lab/lab.ts';
import type { LabNode } from '../../lab/node.ts';
import type { LabProcess } from '../../lab/process.ts';
import { serviceObject, sliceObject } from '../../lab/service-fixtures.ts';
import { flannelLease } from '../overlay/state.ts';
import { healthFlags } from './readiness.ts';

function descriptors({ pid }: LabProcess): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

/** Sets how many descriptors a process may have; what it has open stays. */
function limit({ pid }: LabProcess, soft: number): void {
  const result = spawnSync('prlimit', ['--pid', String(pid), `--nofile=${soft}:`], { encoding: 'utf8' });
  assert.equal(result.status, 0, result.stderr);
}

function manifest(lab: Lab, clusterIP: string): void {
  const ports = [{ name: 'http', port: 8080, protocol: 'TCP' }];
  const objects = [
    serviceObject('shop/web', { clusterIP, ports: [{ name: 'http', port: 80 }] }),
    sliceObject('shop/web', ports, [{ ip: '10.244.9.9', node: 'node9' }]),
  ];
  lab.writeManifest('web.yaml', objects.map((object) => `---\n${stringify(object)}`).join(''));
}

const serves = async (node: LabNode, address: string): Promise<boolean> =>
  (await node.exec('iptables-save', ['-t', 'nat'])).includes(`-d ${address}/32`);

/** Opens connections to the ports and keeps those that the other side keeps, for as long as the process lives. */
async function holdConnections(node: LabNode, ports: readonly number[], count: number) {
  const program = `
    const { connect } = require('node:net');
    let open = 0;
    for (const port of ${JSON.stringify(ports)}) for (let n = 0; n < ${count}; n++)
      connect(port, '127.0.0.1').on('error', () => {}).once('connect', () => {
        if (++open === ${ports.length * count}) console.log('ready');
      });
    setInterval(() => {}, 1e6);`;
  const child = node.namespace.spawn(process.execPath, ['-e', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(child.stdout!, 'data');
  return child;
}

describe('descriptors', () => {
  it('are not used up by strangers: a thousand idle connections leave health, and most descriptors', async () => {
    await withLab({ nodes: 1 }, async (lab) => {
      const node = lab.nodes[0]!;
      await node.startAgent(healthFlags);
      await node.startProxy();
      await lab.waitFor(
        'the proxy',
        async () => (await httpStatus(node.namespace, 10_256, '/readyz')) === 200,
      );
      const before = descriptors(node.agent!) + descriptors(node.proxy!);
      const holder = await holdConnections(node, [9099, 9098, 10_256, 10_249], 1000);
      const during = descriptors(node.agent!) + descriptors(node.proxy!);
      assert.ok(during <= before + 450, `${before}, then ${during}`);
      assert.equal(await httpStatus(node.namespace, 9099, '/healthz'), 200);
      assert.equal(await httpStatus(node.namespace, 10_256, '/healthz'), 200);
      const ended = once(holder, 'exit');
      holder.kill('SIGKILL');
      await ended;
      await lab.waitFor(
        'the connections to be closed',
        () => descriptors(node.agent!) + descriptors(node.proxy!) <= before + 10,
      );
    });
  });

  it('that are short cost nothing that stands; what was to be done meanwhile is done when they are back', async () => {
    await withLab({ nodes: 1 }, async (lab) => {
      const node = lab.nodes[0]!;
      manifest(lab, '10.96.0.10');
      await node.startAgent([...healthFlags, '--iptables-resync=1', '--log-format=json']);
      const pod = await node.addPod('a');
      await node.startProxy(['--log-format=json', '--iptables-sync-period=1s']);
      await lab.waitFor('the rules', () => serves(node, '10.96.0.10'));
      await lab.waitFor('the masquerade rules', async () =>
        (await node.exec('iptables-save', ['-t', 'nat'])).includes('-A FLANNEL-POSTRTG'),
      );
      const both = [node.agent!, node.proxy!];
      const pids = both.map(({ pid }) => pid);
      const logged = both.map((process) => process.log().length);
      // Not even those that they open now and then are to be had, for one has to be the lowest free one.
      for (const process of both) limit(process, 3);

      const { key, value } = flannelLease(77, '02:00:00:00:00:77');
      await lab.etcd.client.put(key).value(value);
      manifest(lab, '10.96.0.11');
      await node.exec('iptables', ['-t', 'nat', '-F', 'FLANNEL-POSTRTG']);
      await node.exec('iptables', ['-t', 'nat', '-F', 'KUBE-SERVICES']);
      node.namespace.sysctl({ 'net/ipv4/ip_forward': '0' });
      const refused = await callCni(node.namespace, {
        command: 'STATUS',
        config: { ...node.netconf, timeoutSeconds: 1 },
      });
      assert.equal(refused.status, 1);
      const holder = await holdConnections(node, [9099, 10_256], 20);
      await sleep(8000); // every timer of both comes at least once
      assert.deepEqual(
        both.map(({ pid }) => pid),
        pids,
        'both live',
      );
      const lines = both.map((process, index) => process.log().slice(logged[index]).split('\n'));
      for (const [index, own] of lines.entries()) {
        assert.ok(
          own.some((line) => /EMFILE|too many open files/.test(line)),
          `${both[index]!.name} says why\n${both[index]!.tail()}`,
        );
        assert.ok(
          own.length < 60,
          `${both[index]!.name} says it ${own.length} times\n${both[index]!.tail()}`,
        );
      }
      assert.equal((await pod.namespace.run('ip', ['link', 'show', 'eth0'])).status, 0);

      for (const process of both) limit(process, 1024);
      const ended = once(holder, 'exit');
      holder.kill('SIGKILL');
      await ended;
      await lab.waitFor('the route to the new lease', async () =>
        (await node.exec('ip', ['route'])).includes('10.244.77.0/24'),
      );
      await lab.waitFor('the masquerade rules again', async () =>
        (await node.exec('iptables-save', ['-t', 'nat'])).includes('-A FLANNEL-POSTRTG'),
      );
      await lab.waitFor('the new Service', () => serves(node, '10.96.0.11'));
      await lab.waitFor('forwarding', async () =>
        (await node.exec('cat', ['/proc/sys/net/ipv4/ip_forward'])).startsWith('1'),
      );
      await lab.waitFor('health of both', async () => {
        const statuses = [9099, 10_256].map((port) => httpStatus(node.namespace, port, '/readyz'));
        return (await Promise.all(statuses)).every((status) => status === 200);
      });
      await node.addPod('b');
    });
  });
});
