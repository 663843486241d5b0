import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Lab } from '../../lab/lab.ts';
import type { LabNode } from '../../lab/node.ts';
import { subnetKeys, threeSubnets, withTwoNodes } from '../../lab/two-nodes.ts';
import { healthFlags, metrics, readyz, said } from '../agent/readiness.ts';
import { flannelLease } from '../overlay/state.ts';

describe('leases that conflict', () => {
  let lab: Lab;
  let one: LabNode;
  let two: LabNode;

  withTwoNodes({ networkConfig: threeSubnets }, (made) => {
    ({ lab, one, two } = made);
  });

  it('a node that gets no subnet because leases conflict says so in its log, its readiness and a metric', async () => {
    for (const [key, host] of [
      ['10.244.0.0-22', 50],
      ['10.244.2.0-24', 51],
    ] as const)
      await lab.etcd.put(
        subnetKeys + key,
        flannelLease(0, `02:00:00:00:00:${host}`, `192.0.2.${host}`).value,
      );
    await one.startAgent(healthFlags, false);
    const conflict = /the subnets of 10\.244\.0\.0-22 .* and 10\.244\.2\.0-24 .* overlap/;
    await lab.waitFor('the conflict in the log', () => said(one, conflict) > 0);
    const { status, text } = await readyz(one);
    assert.equal(status, 503);
    assert.match(text, new RegExp(`\\[!\\] conflict: ${conflict.source}`));
    assert.match(await metrics(one), /^twill_agent_lease_conflicts\{kind="subnet"\} 1$/m);
  });

  it("a subnet that is the nodes' own network does not cut them off from it", async () => {
    await one.startAgent();
    await lab.etcd.put(`${subnetKeys}192.0.2.0-24`, flannelLease(0, '02:00:00:00:00:50', '192.0.2.50').value);
    const { key, value } = flannelLease(40, '02:00:00:00:00:40');
    await lab.etcd.put(key, value);
    await lab.waitFor('a later lease to arrive', async () =>
      (await one.exec('ip', ['route'])).includes('10.244.40.0/24 '),
    );
    assert.match(await one.exec('ip', ['route', 'get', two.ipv4]), /dev eth0/);
    assert.match(
      one.agent!.log(),
      /no route to a node .*192\.0\.2\.0\/24 is not in the pod network 10\.244\.0\.0\/16/,
    );
  });

  it('a node whose public IP is used by another, and for which no subnet is left, says both', async () => {
    const ip = '--public-ip=192.0.2.200';
    for (const third of [1, 2]) {
      const { key, value } = flannelLease(third, `02:00:00:00:00:0${third}`);
      await lab.etcd.put(key, value);
    }
    await one.startAgent([ip]);
    await two.startAgent([...healthFlags, ip], false);
    await lab.waitFor('both reasons', async () =>
      /every IPv4 subnet .* is leased; another node with our public IP holds 10\.244\.3\.0-24/.test(
        (await readyz(two)).text,
      ),
    );
  });

  it('two nodes with one public IP: both name the conflict, each keeps a subnet, nothing flaps', async () => {
    const ip = '--public-ip=192.0.2.200';
    await one.startAgent([ip]);
    const [first] = await lab.etcd.keys(subnetKeys);
    await two.startAgent([ip]);
    await lab.waitFor('two leases', async () => (await lab.etcd.keys(subnetKeys)).length === 2);
    await lab.waitFor('both to name the conflict', () =>
      [one, two].every((node) => said(node, /both claim the public IP 192\.0\.2\.200/) > 0),
    );
    const settled = await lab.etcd.keys(subnetKeys);
    assert.deepEqual(
      settled.find(({ key }) => key === first?.key),
      first,
    );
    const macs = settled.map(({ value }) => /VtepMAC":"([^"]+)/.exec(value)?.[1]);
    for (const node of [one, two])
      for (const mac of macs) assert.ok(said(node, new RegExp(`leases conflict .*${mac}`)) > 0);
    // Both restart: still the same.
    for (const node of [one, two]) {
      await node.agent!.kill();
      await node.startAgent([ip]);
    }
    await assert.rejects(
      lab.waitFor(
        'a change',
        async () => {
          const now = await lab.etcd.keys(subnetKeys);
          return JSON.stringify(now) !== JSON.stringify(settled);
        },
        { timeoutMs: 1000 },
      ),
    );
  });
});
