import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { EtcdLeases } from '../../../src/leases/etcd/store.ts';
import { etcdPrefix, type Lab } from '../../lab/lab.ts';
import type { LabNode } from '../../lab/node.ts';
import { subnetKeys, threeSubnets, withTwoNodes } from '../../lab/two-nodes.ts';
import { healthFlags, metrics, readyz, said } from '../agent/readiness.ts';
import { assertConverges, flannelLease } from '../overlay/state.ts';

describe('leases in etcd', () => {
  let lab: Lab;
  let one: LabNode;
  let two: LabNode;

  withTwoNodes({ networkConfig: null }, (made) => {
    ({ lab, one, two } = made);
  });

  const lease = async (
    node: LabNode,
  ): Promise<{ name: string; value: string; lease: string } | undefined> => {
    const keys = await lab.etcd.keys(subnetKeys);
    const found = keys.find(({ value }) => value.includes(`"PublicIP":"${node.ipv4}"`));
    return found && { name: found.key.slice(subnetKeys.length), value: found.value, lease: found.lease };
  };

  it('etcd does not answer at the start: keeps trying and says so once for each wait', async () => {
    await lab.etcd.stop();
    await one.startAgent(healthFlags, false);
    await lab.waitFor('three attempts', () => said(one, /cannot follow the leases in etcd, will retry/) >= 3);
    const waits = [...one.agent!.log().matchAll(/retryInMs=(\d+)/g)].map(([, ms]) => Number(ms));
    assert.deepEqual(waits.slice(0, 3), [200, 400, 800]);
    const { status, text } = await readyz(one);
    assert.equal(status, 503);
    assert.match(text, /does not answer/);
    await lab.etcd.start();
  });

  it('without a configuration it waits; a wrong one is named by key and field; a right one is taken up', async () => {
    const confDir = join(one.dir, 'net.d');
    mkdirSync(confDir, { recursive: true });
    for (const name of ['05-other.conflist', '10-twill.conflist']) writeFileSync(join(confDir, name), name);
    await one.startAgent([...healthFlags, `--cni-conf-dir=${confDir}`], false);
    await lab.waitFor(
      'the agent to miss the key',
      () => said(one, /configuration is missing in etcd.*network\/config/) === 1,
    );
    await lab.etcd.put(
      `${etcdPrefix}/config`,
      '{"Network":"10.244.0.0/16","SubnetLen":"x","Backend":{"Type":"vxlan"}}',
    );
    await lab.waitFor(
      'the complaint',
      () => said(one, /key=\/coreos\.com\/network\/config reason=SubnetLen is not a number/) === 1,
    );
    await lab.etcd.put(`${etcdPrefix}/config`, '{"Network":');
    await lab.waitFor('the complaint', () => said(one, /reason=the network configuration is not JSON/) === 1);
    assert.match((await readyz(one)).text, /not JSON/);
    await lab.etcd.put(`${etcdPrefix}/config`, JSON.stringify(threeSubnets));
    await one.agentReady();
    await lab.waitFor('readiness', async () => (await readyz(one)).status === 200);
    assert.match((await readyz(one)).text, /\[!\] CNI: the container runtime uses \S+\/05-other\.conflist/);
    const shown = await metrics(one);
    assert.match(shown, /^twill_agent_lease_held 1$/m);
    assert.match(shown, /^twill_agent_lease_conflicts\{kind="subnet"\} 0$/m);
    for (const what of ['entries', 'devices', 'settings', 'rules'])
      assert.match(shown, new RegExp(`^twill_agent_repairs_total\\{what="${what}"\\} 0$`, 'm'));
    assert.match(shown, /^twill_cni_addresses\{ip_family="IPv4",state="free"\} 253$/m);
  });

  it("another node's malformed key or value is skipped, named and counted, and its subnet left alone", async () => {
    await lab.etcd.put(`${subnetKeys}nonsense`, '{}');
    await lab.etcd.put(`${subnetKeys}10.244.1.0-24`, '{"PublicIP":');
    await lab.etcd.put(`${subnetKeys}10.244.2.0-24`, '{"PublicIP":"192.0.2.99","BackendType":"vxlan"}');
    await one.startAgent(healthFlags);
    assert.equal((await lease(one))?.name, '10.244.3.0-24');
    for (const name of ['nonsense', '10\\.244\\.1\\.0-24', '10\\.244\\.2\\.0-24'])
      assert.equal(
        said(one, new RegExp(`skipped a lease that cannot be read .*key=${subnetKeys}${name} `)),
        1,
        name,
      );
    // The kernel would refuse these two.
    await lab.etcd.put(`${subnetKeys}127.0.5.0-24`, flannelLease(0, '02:00:00:00:00:55', '192.0.2.55').value);
    await lab.etcd.put(
      `${subnetKeys}10.244.56.0-24`,
      flannelLease(0, '01:00:5e:00:00:56', '192.0.2.56').value,
    );
    await lab.waitFor('the complaints', () => said(one, /key=\S+(127\.0\.5|10\.244\.56)\.0-24 /) === 2);
    const { status, text } = await readyz(one);
    assert.equal(status, 200);
    assert.match(text, /\[!\] lease nonsense: skipped/);
    const { key, value } = flannelLease(2, '02:00:00:00:00:99', '192.0.2.99');
    await lab.etcd.put(key, value);
    await assertConverges(lab, one);
  });

  it('finds its lease by its public IP although all its state is gone', async () => {
    await lab.etcd.put(
      ...(Object.values(flannelLease(3, '02:00:00:00:00:99', one.ipv4)) as [string, string]),
    );
    await one.startAgent();
    assert.equal((await lab.etcd.keys(subnetKeys)).length, 1);
    assert.equal((await lease(one))?.name, '10.244.3.0-24');
  });

  it('uses the interface through which --iface-can-reach is reached', async () => {
    await one.startAgent([`--iface-can-reach=${lab.nodes[1]?.ipv4 ?? '192.0.2.1'}`]);
    assert.match(one.agent!.log(), /interface=eth0 .*--iface-can-reach/);
  });

  it('a key without an etcd lease is a reservation and stays one', async () => {
    const { key, value } = flannelLease(2, '02:00:00:00:00:99', one.ipv4);
    await lab.etcd.put(key, value);
    await one.startAgent();
    const held = await lease(one);
    assert.equal(held?.name, '10.244.2.0-24');
    assert.equal(held?.lease, '0');
    assert.notEqual(held?.value, value);
  });

  it('takes the subnet of its subnet file again when its lease has expired meanwhile', async () => {
    await one.startAgent();
    const first = await lease(one);
    await one.agent!.stop();
    await lab.etcd.delete(subnetKeys + first?.name);
    await one.startAgent();
    const again = await lab.waitFor('the lease', () => lease(one));
    assert.equal(again.name, first?.name);
  });

  it('a lease that was revoked is taken again, whoever has got it meanwhile; one that has expired is not', async () => {
    // Of a few seconds, which the agent keeps once it has started.
    const { key, value } = flannelLease(2, '02:00:00:00:00:99', one.ipv4);
    const short = lab.etcd.client.lease(10, { autoKeepAlive: false });
    await short.put(key).value(value);
    await one.startAgent(healthFlags);
    const first = await lease(one);
    assert.equal(first?.lease, String(await short.grant()));
    await lab.etcd.client.leaseClient.leaseRevoke({ ID: first!.lease });
    const other = flannelLease(0, '02:00:00:00:00:50', '192.0.2.50').value;
    await lab.etcd.put(key, other);
    await lab.waitFor('the lease again', async () => (await lease(one))?.name === first?.name);
    assert.ok(said(one, /another has overwritten or deleted our lease: writing it back/) > 0);
    assert.equal(said(one, /our lease is lost/), 0);
    await lab.waitFor('readiness', async () => (await readyz(one)).status === 200);
    // Partitioned: the lease expires and another node takes the subnet.
    await one.agent!.stop();
    const again = lab.etcd.client.lease(10, { autoKeepAlive: false });
    await again.put(key).value((await lease(one))!.value);
    await one.startAgent(healthFlags);
    await one.blockEtcd();
    await lab.waitFor('the lease to expire', async () => (await lab.etcd.get(key)) === undefined);
    await lab.etcd.put(key, other);
    await one.unblockEtcd();
    await lab.waitFor('another subnet', async () => {
      const now = await lease(one);
      return now !== undefined && now.name !== first?.name;
    });
    const now = await lease(one);
    await assertConverges(lab, one);
    await lab.waitFor('the address of the new subnet', async () =>
      (await one.exec('ip', ['address', 'show', 'dev', 'flannel.1'])).includes(
        now!.name.replace('-24', '/32'),
      ),
    );
  });

  it('a lease that somebody keeps writing over is said by the log and /readyz', async () => {
    await one.startAgent(healthFlags);
    const first = await lease(one);
    const key = subnetKeys + first!.name;
    for (let turn = 0; turn < 5; turn++) {
      await lab.etcd.put(key, flannelLease(0, '02:00:00:00:00:50', '192.0.2.50').value);
      await lab.waitFor('the lease again', async () => (await lab.etcd.get(key)) === first!.value);
    }
    const { status, text } = await readyz(one);
    assert.equal(status, 200, text);
    assert.match(text, /\[!\] own node: another has overwritten or deleted our lease \S+ 5 times/);
  });

  it('not ready while there is no free subnet, with the reason; ready when there is one', async () => {
    for (const third of [1, 2, 3]) {
      const { key, value } = flannelLease(third, `02:00:00:00:00:0${third}`);
      await lab.etcd.put(key, value);
    }
    await one.startAgent(healthFlags, false);
    await lab.waitFor('the reason', async () =>
      /every IPv4 subnet .* is leased/.test((await readyz(one)).text),
    );
    assert.equal((await readyz(one)).status, 503);
    await lab.etcd.delete(`${subnetKeys}10.244.2.0-24`);
    await lab.waitFor('readiness', async () => (await readyz(one)).status === 200);
    assert.equal((await lease(one))?.name, '10.244.2.0-24');
  });

  it('an IPv4 subnet is leased once, whichever IPv6 subnet is beside it', async () => {
    const store = new EtcdLeases({ endpoints: [lab.etcd.localEndpoint], prefix: etcdPrefix });
    try {
      const value = '{"PublicIP":"192.0.2.222","BackendType":"alloc"}';
      const first = await store.create('10.244.2.0-24&fd00:10:244:2::-64', value);
      assert.ok(first);
      assert.equal(await store.create('10.244.2.0-24&fd00:10:244:3::-64', value), undefined);
      assert.equal(await store.create('10.244.2.0-24', value), undefined);
      const second = await store.create('10.244.3.0-24&fd00:10:244:3::-64', value);
      assert.ok(second);
      for (const record of [first, second]) await store.remove(record);
    } finally {
      store.close();
    }
  });

  it('a write that etcd refuses leaves no etcd lease behind', async () => {
    const store = new EtcdLeases({ endpoints: [lab.etcd.localEndpoint], prefix: etcdPrefix });
    const { leaseClient } = lab.etcd.client;
    try {
      const before = (await leaseClient.leaseLeases()).leases.length;
      const known = { name: '10.244.2.0-24', value: '', created: 1, revision: 1n, etcdLease: '0' };
      const tooBig = 'x'.repeat(2_000_000);
      await assert.rejects(store.create(known.name, tooBig));
      await assert.rejects(store.retake(known, tooBig, false));
      assert.equal((await leaseClient.leaseLeases()).leases.length, before);
    } finally {
      store.close();
    }
  });

  it('two nodes that start at the same time get different subnets', async () => {
    await Promise.all([one.startAgent(), two.startAgent()]);
    const names = await Promise.all([lease(one), lease(two)]);
    assert.notEqual(names[0]?.name, names[1]?.name);
  });
});
