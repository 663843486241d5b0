import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { twillProgram } from '../../lab/files.ts';
import type { LabNode } from '../../lab/node.ts';
import { servicePort } from '../../lab/place.ts';
import { serviceObject, sliceObject } from '../../lab/service-fixtures.ts';
import { type ServiceLab, withServiceLab } from '../../lab/service-lab.ts';

const service = serviceObject('shop/web', { clusterIP: '10.96.0.10', ports: [{ port: 80 }] });

async function withWeb(work: (services: ServiceLab, node: LabNode) => Promise<void>): Promise<void> {
  await withServiceLab({ nodes: 1 }, async (services) => {
    const node = services.lab.nodes[0]!;
    const pod = await services.addServer(node, 'web');
    services.write('web.yaml', service, sliceObject('shop/web', [{ port: servicePort }], [{ ip: pod.ipv4 }]));
    await work(services, node);
  });
}

/** Puts a rule into a chain that iptables-nft, which makes the chain here, cannot print. */
async function spoil(node: LabNode, table: string, chain: string): Promise<void> {
  await node.exec('iptables-nft', ['-t', table, '-A', chain, '-s', '203.0.113.99', '-j', 'RETURN']);
  await node.exec('nft', ['add', 'rule', 'ip', table, chain, 'ct', 'count', 'over', '100000', 'counter']);
}

async function jumps(node: LabNode): Promise<number> {
  const chain = await node.exec('nft', ['list', 'chain', 'ip', 'nat', 'PREROUTING']);
  return chain.match(/jump KUBE-SERVICES/g)?.length ?? 0;
}

async function answers(node: LabNode): Promise<boolean> {
  const answer = await node.probe
    .ask({ protocol: 'tcp', address: '10.96.0.10', port: 80 })
    .catch(() => undefined);
  return answer?.server === 'web';
}

describe('tables with rules that iptables-nft cannot print', () => {
  it('are not taken for empty: jumps stand once, changes are written, /readyz names what is in the way', () =>
    withWeb(async (services, node) => {
      await spoil(node, 'nat', 'PREROUTING');
      await spoil(node, 'filter', 'INPUT');
      await services.startProxy(node, ['--iptables-sync-period=1s']);
      await services.lab.waitFor('an answer', () => answers(node));
      for (let time = 0; time < 10; time++) {
        await node.exec('nft', [time % 2 === 0 ? 'add' : 'delete', 'table', 'ip', 'somebodys']);
        await sleep(300); // the proxy looks at what changes every tenth of a second
      }
      assert.equal(await jumps(node), 1);
      assert.match(
        await services.get(node, 10_256, '/readyz'),
        /ok\n\[!\] rules: table (nat|filter) .*cannot print/,
      );
      await node.exec('iptables-nft', [
        ...['-t', 'nat', '-D', 'PREROUTING', '-m', 'comment', '--comment', 'kubernetes service portals'],
        ...['-j', 'KUBE-SERVICES'],
      ]);
      await services.lab.waitFor('the jump again', async () => (await jumps(node)) === 1);
      await node.exec('iptables-nft', ['-t', 'nat', '-F', 'KUBE-SERVICES']);
      await services.lab.waitFor('an answer again', () => answers(node));
      services.write('web.yaml');
      await services.lab.waitFor(
        'the Service to go',
        async () => !(await node.exec('nft', ['list', 'table', 'ip', 'nat'])).includes('10.96.0.10'),
      );
      await node.proxy!.stop();
      await node.exec(twillProgram, ['proxy', '--cleanup']);
      assert.doesNotMatch(await node.exec('nft', ['list', 'table', 'ip', 'nat']), /KUBE-SERVICES/);
      assert.match(await node.exec('nft', ['list', 'table', 'ip', 'nat']), /ct count/);
    }));
});

describe('rules that somebody changes again and again', () => {
  it('are put right more and more rarely, and /readyz says so', () =>
    withWeb(async (services, node) => {
      await services.startProxy(node);
      const readyz = (): Promise<string> => services.get(node, 10_256, '/readyz');
      await services.lab.waitFor('/readyz to say so', async () => {
        await node.exec('iptables-nft', ['-t', 'nat', '-F', 'PREROUTING']);
        return (await readyz()).includes(
          '[!] contested: something keeps changing 1 objects of ours: rules of Services (ipv4)',
        );
      });
      assert.match(node.proxy!.log(), /again and again/);
    }));

  it('an address that tools print otherwise than it was written is no such rule', () =>
    withWeb(async (services, node) => {
      const dual = serviceObject('shop/six', {
        clusterIP: 'fd00:96::1',
        ports: [{ port: 80 }],
        externalIPs: ['::1.2.3.4', '0:0:0:0:0:0:c000:201', 'fd00:0:0:1:0:0:0:1'],
      });
      const slice = {
        ...sliceObject('shop/six', [{ port: servicePort }], [{ ip: 'fd00:244:1::2' }]),
        addressType: 'IPv6',
      };
      services.write('six.yaml', dual, slice);
      await services.startProxy(node, ['--iptables-sync-period=1s', '--log-level=debug']);
      const full = (): string[] => node.proxy!.log().match(/rules in sync .*full=true.*/g) ?? [];
      const ofSix = (): string[] => full().filter((line) => line.includes('family=ipv6'));
      await services.lab.waitFor('further full looks', () => ofSix().length > 3);
      for (const line of ofSix().slice(1)) assert.match(line, /bytes=0/);
      assert.match(await node.exec('ip6tables-nft-save', ['-t', 'nat']), /::1\.2\.3\.4\/128/);
    }));
});
