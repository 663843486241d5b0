import assert from 'node:assert/strict';
import { it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { withLab } from '../../lab/lab.ts';
import type { LabNode } from '../../lab/node.ts';
import { healthFlags, readyz } from '../agent/readiness.ts';

const hostPort = {
  capabilities: { portMappings: true },
  runtimeConfig: { portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }] },
};

async function count(node: LabNode, chain: string, what: RegExp): Promise<number> {
  const text = await node.exec('nft', ['list', 'chain', 'ip', 'nat', chain]);
  return text.match(what)?.length ?? 0;
}

it('what iptables-nft cannot print is not taken for empty: jumps stand once and come back, /readyz names the chain', () =>
  withLab({ nodes: 1, underlay: 'ipv4' }, async (lab) => {
    const node = lab.nodes[0]!;
    for (const chain of ['POSTROUTING', 'PREROUTING']) {
      await node.exec('iptables-nft', ['-t', 'nat', '-A', chain, '-s', '203.0.113.99', '-j', 'RETURN']);
      await node.exec('nft', ['add', 'rule', 'ip', 'nat', chain, 'ct', 'count', 'over', '100000', 'counter']);
    }
    await node.startAgent(['--iptables-resync=1', ...healthFlags]);
    await node.addPod('server', hostPort);
    const masquerade = (): Promise<number> => count(node, 'POSTROUTING', /jump FLANNEL-POSTRTG/g);
    const hostPorts = (): Promise<number> => count(node, 'PREROUTING', /jump CNI-HOSTPORT-DNAT/g);
    await lab.waitFor('the jumps', async () => (await masquerade()) > 0 && (await hostPorts()) > 0);
    for (let time = 0; time < 6; time++) {
      await node.exec('nft', [time % 2 === 0 ? 'add' : 'delete', 'table', 'ip', 'somebodys']);
      await sleep(600); // host ports are looked at half a second after rules were changed
    }
    assert.deepEqual([await masquerade(), await hostPorts()], [1, 1]);
    const { text } = await readyz(node);
    assert.match(
      text,
      /\[!\] rules: chain POSTROUTING of table nat \(ipv4\) holds rules that iptables-nft cannot print/,
    );
    assert.match(text, /\[!\] CNI: table nat \(ipv4\) holds rules that iptables-nft cannot print/);
    await node.exec('iptables-nft', [
      ...[
        '-t',
        'nat',
        '-D',
        'POSTROUTING',
        '-m',
        'comment',
        '--comment',
        'flanneld masq',
        '-j',
        'FLANNEL-POSTRTG',
      ],
    ]);
    await node.exec('iptables-nft', [
      ...[
        '-t',
        'nat',
        '-D',
        'PREROUTING',
        '-m',
        'addrtype',
        '--dst-type',
        'LOCAL',
        '-j',
        'CNI-HOSTPORT-DNAT',
      ],
    ]);
    await lab.waitFor('them again', async () => (await masquerade()) === 1 && (await hostPorts()) === 1);
  }));

it('rules that somebody changes again and again are put right more and more rarely, and named', () =>
  withLab({ nodes: 1, underlay: 'ipv4' }, async (lab) => {
    const node = lab.nodes[0]!;
    await node.startAgent(['--iptables-resync=1', ...healthFlags]);
    await node.addPod('server', hostPort);
    await lab.waitFor('both to be named', async () => {
      await node.namespace.run('iptables-nft', ['-t', 'nat', '-F', 'FLANNEL-POSTRTG']);
      await node.namespace.run('iptables-nft', ['-t', 'nat', '-F', 'CNI-HOSTPORT-TWILL']);
      const { text } = await readyz(node);
      return text.includes('FLANNEL-POSTRTG (ipv4)') && text.includes('host port rules (ipv4)');
    });
    assert.equal(node.agent!.log().match(/again and again/g)?.length, 2);
  }));
