import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { podSubnets, withLab } from '../../lab/lab.ts';
import type { LabNode } from '../../lab/node.ts';
import { servicePort } from '../../lab/place.ts';
import type { Pod } from '../../lab/pod.ts';

/**
 * What of the kernel says that there is no IPv6 (as with ipv6.disable=1) is hidden from the node's processes, and what they
 * send is recorded: a kernel without answers EAFNOSUPPORT to everything of AF_INET6, this one would take it.
 */
function hideIpv6(node: LabNode): string {
  const traces = join(node.dir, 'traces');
  const empty = join(node.dir, 'empty');
  for (const folder of [traces, empty]) mkdirSync(folder);
  const script = `mount --bind ${empty} /proc/sys/net/ipv6 && exec strace -D -ff -qq -s 4096 -e trace=%network -o ${traces}/t "$@"`;
  node.prefix = ['unshare', '--mount', '--propagation', 'slave', 'sh', '-c', script, 'sh'];
  return traces;
}

/** nft has the C library sort the addresses of what it prints, which asks for their source and minds no refusal. */
const ofGetaddrinfo = /^(socket\(AF_INET6, SOCK_DGRAM|connect\(.*"::1"|getsockname\()/;

/** System calls that speak of IPv6, as strace spells it in addresses, sockets and netlink's messages. */
function ofIpv6(traces: string): string[] {
  return readdirSync(traces)
    .flatMap((file) => readFileSync(join(traces, file), 'utf8').split('\n'))
    .filter((line) => /AF_INET6|IPPROTO_IPV6|SOL_IPV6/.test(line) && !/^recv/.test(line))
    .filter((line) => !ofGetaddrinfo.test(line));
}

describe('a kernel without IPv6', () => {
  it('hears nothing of it, and pods, host ports and Services work over IPv4', async () => {
    await withLab({ nodes: 2, underlay: 'ipv4' }, async (lab) => {
      const traces = lab.nodes.map(hideIpv6);
      await Promise.all(lab.nodes.map((node) => node.startAgent(['--healthz-port=9097'])));
      await Promise.all(lab.nodes.map((node) => node.startProxy()));
      const [one, two] = lab.nodes as [LabNode, LabNode];
      const far = await two.addPod('far', {
        capabilities: { portMappings: true },
        runtimeConfig: { portMappings: [{ hostPort: 9080, containerPort: servicePort, protocol: 'tcp' }] },
      });
      const near = await one.addPod('near');
      await far.serve();
      lab.writeManifest('service.yaml', service(far));
      const asked = [
        { address: far.ipv4, port: servicePort },
        { address: two.ipv4, port: 9080 },
        { address: '10.96.0.10', port: 80 },
      ];
      for (const target of asked) {
        const { server } = await lab.waitFor(`an answer from ${target.address}`, () =>
          near.probe.ask({ protocol: 'tcp', ...target, timeoutMs: 500 }),
        );
        assert.equal(server, 'far');
      }
      await far.remove();
      for (const node of lab.nodes) {
        await node.agent!.stop();
        await node.proxy!.stop();
      }
      for (const folder of traces) {
        assert.ok(readdirSync(folder).length > 0);
        assert.deepEqual(ofIpv6(folder), []);
      }
    });
  });

  it('is named where the network configuration wants IPv6', async () => {
    const networkConfig = {
      ...podSubnets,
      EnableIPv6: true,
      IPv6Network: 'fd00:244::/48',
      Backend: { Type: 'vxlan' },
    };
    await withLab({ nodes: 1, networkConfig }, async (lab) => {
      const node = lab.nodes[0]!;
      const traces = hideIpv6(node);
      await node.startAgent([], false);
      await lab.waitFor('the reason', () => /this kernel has no IPv6/.test(node.agent!.log()));
      await node.agent!.stop();
      assert.deepEqual(ofIpv6(traces), []);
    });
  });
});

const service = (pod: Pod): string => `apiVersion: v1
kind: Service
metadata: { name: far, namespace: default }
spec:
  clusterIP: 10.96.0.10
  clusterIPs: [10.96.0.10]
  ipFamilies: [IPv4]
  ports: [{ name: tcp, protocol: TCP, port: 80, targetPort: ${servicePort} }]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: far-1, namespace: default, labels: { kubernetes.io/service-name: far } }
addressType: IPv4
endpoints: [{ addresses: [${pod.ipv4}], conditions: { ready: true }, nodeName: ${pod.node.name} }]
ports: [{ name: tcp, protocol: TCP, port: ${servicePort} }]
`;
