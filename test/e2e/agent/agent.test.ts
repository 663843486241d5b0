import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { etcdPrefix, Lab, withLab } from '../../lab/lab.ts';
import type { LabNode } from '../../lab/node.ts';
import { servicePort } from '../../lab/place.ts';
import type { Pod } from '../../lab/pod.ts';
import { healthFlags, readyz } from './readiness.ts';

/** What flanneld writes: field for field, in this order, without spaces. */
const shape =
  /^\{"PublicIP":"192\.0\.2\.\d+","PublicIPv6":null,"BackendType":"vxlan","BackendData":\{"VNI":1,"VtepMAC":"[0-9a-f]{2}(:[0-9a-f]{2}){5}"\}\}$/;

describe('agent over etcd and VXLAN', () => {
  let lab: Lab;
  let nodes: LabNode[];
  let pods: Pod[];

  before(async () => {
    lab = await Lab.start({ nodes: 2 });
    nodes = [...lab.nodes];
    await Promise.all(nodes.map((node) => node.startAgent()));
    pods = await Promise.all(nodes.map((node) => node.addPod('a')));
  });
  after(() => lab.stop());

  it('writes leases as flanneld does, each on an etcd lease of 24 h', async () => {
    const keys = await lab.etcd.keys(`${etcdPrefix}/subnets/`);
    assert.equal(keys.length, 2);
    for (const { key, value, lease } of keys) {
      assert.match(key, /^\/coreos\.com\/network\/subnets\/10\.244\.\d+\.0-24$/);
      assert.match(value, shape);
      const { grantedTTL, TTL } = await lab.etcd.client.leaseClient.leaseTimeToLive({
        ID: lease,
        keys: false,
      });
      assert.equal(Number(grantedTTL), 86_400);
      assert.ok(Number(TTL) > 86_000);
    }
  });

  it('writes the subnet file', () => {
    for (const node of nodes) {
      const text = readFileSync(node.subnetFile, 'utf8');
      assert.match(
        text,
        /^FLANNEL_NETWORK=10\.244\.0\.0\/16\nFLANNEL_SUBNET=10\.244\.\d+\.1\/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n$/,
      );
    }
  });

  it("carries pods' traffic between the nodes", async () => {
    const [a, b] = pods as [Pod, Pod];
    await b.serve();
    const answer = await lab.waitFor('traffic between pods', () =>
      a.probe.ask({ protocol: 'tcp', address: b.ipv4, port: servicePort }),
    );
    assert.deepEqual(answer, { server: b.name, client: a.ipv4 });
  });

  it('killed and started again has the same subnet and VTEP MAC, and pods lose nothing', async () => {
    const [a, b] = pods as [Pod, Pod];
    const [first] = nodes as [LabNode];
    const before = await lab.etcd.keys(`${etcdPrefix}/subnets/`);
    const target = { protocol: 'udp', address: b.ipv4, port: servicePort } as const;
    const stream = await a.probe.stream({ ...target, intervalMs: 10 });
    await first.agent!.kill();
    await first.startAgent();
    await lab.waitFor('the restarted agent to follow the leases', () =>
      /kernel events are watched|wrote the subnet file|reusing the lease/.test(first.agent!.log()),
    );
    const result = await stream.end();
    assert.equal(result.received, result.sent);
    assert.ok(result.sent > 0);
    assert.deepEqual(await lab.etcd.keys(`${etcdPrefix}/subnets/`), before);
  });

  it('stopped by SIGTERM leaves traffic, lease and rules', async () => {
    const [a, b] = pods as [Pod, Pod];
    const [first] = nodes as [LabNode];
    const target = { protocol: 'udp', address: b.ipv4, port: servicePort } as const;
    const stream = await a.probe.stream({ ...target, intervalMs: 10 });
    await first.agent!.stop();
    assert.equal(first.agent!.exitCode, 0);
    const { sent, received } = await stream.end();
    assert.equal(received, sent);
    assert.equal((await lab.etcd.keys(`${etcdPrefix}/subnets/`)).length, 2);
    assert.match(await first.exec('iptables', ['-t', 'nat', '-S', 'POSTROUTING']), /-j FLANNEL-POSTRTG/);
  });
});

it('where it may not write settings, as in a container without privileges, it needs those only that are not right', async () => {
  await withLab({ nodes: 1 }, async (lab) => {
    const node = lab.nodes[0]!;
    mkdirSync(node.programs);
    // What `ip netns exec` starts has mounts of its own.
    const script = `#!/bin/sh
      mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && exec ${process.execPath} "$@"\n`;
    writeFileSync(join(node.programs, 'node'), script, { mode: 0o755 });
    await node.startAgent(healthFlags, false);
    await lab.waitFor('the reason', async () =>
      /^503[\s\S]*cannot set sysctl net\/ipv4\/ip_forward=1: \/proc\/sys has to be writable/.test(
        (await readyz(node)).text,
      ),
    );
    node.namespace.sysctl({ 'net/ipv4/ip_forward': '1' });
    await node.agent!.stop();
    await node.startAgent(healthFlags);
    await lab.waitFor('readiness', async () => (await readyz(node)).status === 200);
  });
});
