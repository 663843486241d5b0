import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { twillProgram } from '../../lab/files.ts';
import { attackLoopback, prepareLoopbackAttack } from '../../lab/loopback-attack.ts';
import type { LabNode } from '../../lab/node.ts';
import { servicePort } from '../../lab/place.ts';
import { serviceObject, sliceObject } from '../../lab/service-fixtures.ts';
import { type ServiceLab, withServiceLab } from '../../lab/service-lab.ts';
import { udpSend, udpSink } from '../../lab/udp.ts';

async function localnet(node: LabNode): Promise<string> {
  return (await node.exec('cat', ['/proc/sys/net/ipv4/conf/all/route_localnet'])).trim();
}

/** A Service with a node port and a health check port, and the pod behind it. */
async function publish(services: ServiceLab, node: LabNode): Promise<() => void> {
  const pod = await services.addServer(node, 'server');
  const ports = [{ port: 80, targetPort: servicePort, nodePort: 30_080 }];
  const service = serviceObject('shop/web', {
    type: 'LoadBalancer',
    clusterIP: '10.96.0.10',
    ports,
    externalTrafficPolicy: 'Local',
    healthCheckNodePort: 32_000,
  });
  const slice = sliceObject('shop/web', [{ port: servicePort }], [{ ip: pod.ipv4, node: node.name }]);
  return () => services.write('web.yaml', service, slice);
}

/** Whether a TCP connection to 127.0.0.1 comes about; what is dropped gives none however long one waits. */
async function connects(
  node: { namespace: LabNode['namespace'] },
  port: number,
  seconds = 15,
): Promise<boolean> {
  const script = `exec 3<>/dev/tcp/127.0.0.1/${port}`;
  return (await node.namespace.run('timeout', [String(seconds), 'bash', '-c', script])).status === 0;
}

for (const variant of ['nft', 'legacy'] as const)
  describe(`node ports on 127.0.0.1, iptables-${variant}`, () => {
    it('open routing to loopback while they are there, and nobody else comes in by that', () =>
      withServiceLab({ nodes: 1, variant }, async (services) => {
        const node = services.lab.nodes[0]!;
        const show = await publish(services, node);
        services.write('web.yaml');
        await services.startProxy(node);
        assert.equal(await localnet(node), '0', 'no node port needs it');
        show();
        await services.lab.waitFor('routing to loopback', async () => (await localnet(node)) === '1');
        const counted = async (): Promise<string | undefined> =>
          /localhost_nodeports_accepted_packets_total (\d+)/.exec(
            await services.get(node, 10_249, '/metrics'),
          )?.[1];
        assert.equal(await counted(), '0');
        assert.equal(await connects(node, 30_080), true, 'the node itself reaches the node port');
        await services.lab.waitFor('the count', async () => (await counted()) === '1');
        assert.equal(await connects(node, 32_000), true, 'and the health check port');
        const neighbour = await services.addPod(node, 'neighbour');
        await prepareLoopbackAttack(neighbour);
        const sink = await udpSink(node.namespace, '127.0.0.1', 9999);
        const everywhere = await udpSink(node.namespace, '0.0.0.0', 9998);
        await attackLoopback(neighbour, { loopback: 9999, ordinary: 9998 }, node.ipv4);
        assert.equal(await connects(neighbour, 32_000, 2), false, 'a health check port on loopback');
        await services.lab.waitFor('an honest packet', async () => {
          await udpSend(neighbour.namespace, { address: node.ipv4, port: 9998, data: 'ok' });
          return everywhere.received.includes('ok');
        });
        assert.deepEqual(sink.received, []);
        assert.ok(!everywhere.received.includes('from elsewhere'));
        services.write('web.yaml');
        await services.lab.waitFor('routing to loopback to end', async () => (await localnet(node)) === '0');
      }));

    it('what is not wanted any more is set back: by flag, by --cleanup; what somebody else opened stays open', () =>
      withServiceLab({ nodes: 1, variant }, async (services) => {
        const node = services.lab.nodes[0]!;
        const program = `iptables-${variant}-save`;
        const show = await publish(services, node);
        show();
        await services.startProxy(node);
        await services.lab.waitFor('routing to loopback', async () => (await localnet(node)) === '1');
        await node.proxy!.stop();
        assert.equal(await localnet(node), '1', 'the data plane stays');
        await services.startProxy(node, ['--iptables-localhost-nodeports=false']);
        assert.equal(await localnet(node), '0');
        assert.doesNotMatch(await node.exec(program, []), /KUBE-LOCALNET/);
        assert.equal(await connects(node, 30_080, 2), false);
        await node.proxy!.stop();
        await services.startProxy(node);
        await node.proxy!.stop();
        await services.startProxy(node);
        await services.lab.waitFor('routing to loopback', async () => (await localnet(node)) === '1');
        await node.proxy!.stop();
        const cleanup = (): Promise<string> => node.exec(twillProgram, ['proxy', '--cleanup']);
        assert.match(await cleanup(), /route_localnet set back to 0/);
        assert.equal(await localnet(node), '0');
        assert.doesNotMatch(await node.exec(program, []), /KUBE-(LOCALNET|SERVICES)/);
        node.namespace.sysctl({ 'net/ipv4/conf/all/route_localnet': '1' });
        await services.startProxy(node);
        services.write('web.yaml');
        await services.lab.waitFor(
          'the Service to go',
          async () =>
            (await node.exec(program, [])).includes('KUBE-SERVICES') &&
            !(await node.exec(program, [])).includes('10.96.0.10'),
        );
        assert.equal(await localnet(node), '1');
        await node.proxy!.stop();
        await cleanup();
        assert.equal(await localnet(node), '1');
      }));
  });
