import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { defaultNetworkConfig, etcdPrefix, Lab } from '../../lab/lab.ts';
import type { LabNode } from '../../lab/node.ts';
import { servicePort } from '../../lab/place.ts';
import type { Pod } from '../../lab/pod.ts';
import { flannelLease, kernelState } from '../overlay/state.ts';
import { type EtcdMember, etcdRequest, startEtcdMembers } from './etcd-members.ts';

const config = JSON.stringify(defaultNetworkConfig);
const subnets = `${etcdPrefix}/subnets/`;

describe('a cluster of three etcd members', () => {
  let lab: Lab;
  let members: EtcdMember[];
  let one: LabNode;
  let a: Pod;
  let b: Pod;

  /** A member that serves requests now. */
  const healthy = (): Promise<EtcdMember> =>
    lab.waitFor('a member that serves', async () => {
      for (const member of members) {
        if (!member.process.running || (await member.metric('etcd_server_has_leader')) !== 1) continue;
        return member;
      }
      return undefined;
    });
  /**
   * Asks until there is an answer: a busy machine may have the members elect a leader at any time.
   * @param done what etcd says of what an earlier attempt has done
   */
  const request = (path: string, body: object, done = /(?!)/): Promise<string> =>
    lab.waitFor(`etcd to answer ${path}`, async () => {
      const member = await healthy();
      return etcdRequest(member, path, body).catch((error: Error) => {
        if (done.test(error.message)) return '{}';
        throw error;
      });
    });
  const put = async (key: string, value: string): Promise<void> => {
    await request('kv/put', { key, value });
  };
  const revoke = async (ID: string): Promise<void> => {
    await request('lease/revoke', { ID }, /lease not found/);
  };
  const keys = async (): Promise<{ name: string; lease: string }[]> => {
    const text = await request('kv/range', { key: subnets, range_end: `${subnets}~` });
    const { kvs = [] } = JSON.parse(text) as { kvs?: { key: string; lease?: string }[] };
    return kvs.map(({ key, lease = '0' }) => ({
      name: Buffer.from(key, 'base64').toString().slice(subnets.length),
      lease,
    }));
  };
  const ownKey = async (): Promise<{ name: string; lease: string }> => {
    const own = /FLANNEL_SUBNET=(\d+\.\d+\.\d+)\.1/.exec(await one.exec('cat', [one.subnetFile]))?.[1];
    return (await keys()).find(({ name }) => name === `${own}.0-24`)!;
  };
  const routes = async (): Promise<string[]> =>
    (await kernelState(one.namespace)).routes.map((line) => line.split(' ')[0]!);
  const arrives = async (third: number): Promise<void> => {
    const { key, value } = flannelLease(third, `02:00:00:00:00:${third}`);
    await put(key, value);
    await lab.waitFor(`the route to 10.244.${third}.0/24`, async () =>
      (await routes()).includes(`10.244.${third}.0/24`),
    );
  };
  /** Runs `fault` while traffic flows between the pods: nothing of it may be lost. */
  const withTraffic = async (fault: () => Promise<void>): Promise<void> => {
    const target = { protocol: 'udp', address: b.ipv4, port: servicePort } as const;
    const stream = await a.probe.stream({ ...target, intervalMs: 20 });
    await fault();
    const { sent, received } = await stream.end();
    assert.equal(received, sent);
    assert.ok(sent > 0);
  };

  before(async () => {
    lab = await Lab.start({ nodes: 2, underlay: 'ipv4', networkConfig: null });
    members = await startEtcdMembers(lab);
    await put(`${etcdPrefix}/config`, config);
    one = lab.nodes[0]!;
    const endpoints = `--etcd-endpoints=${members.map(({ endpoint }) => endpoint).join(',')}`;
    await Promise.all(lab.nodes.map((node) => node.startAgent([endpoints, '--log-level=debug'])));
    [a, b] = (await Promise.all(lab.nodes.map((node) => node.addPod('a')))) as [Pod, Pod];
    await b.serve();
    await lab.waitFor('traffic', async () => {
      await a.probe.ask({ protocol: 'udp', address: b.ipv4, port: servicePort, timeoutMs: 500 });
      return true;
    });
    await arrives(40);
  });
  after(() => lab.stop());

  it('the leader is killed: the watch goes on, and a lost lease is leased again', async () => {
    const leader = await lab.waitFor('a leader', async () => {
      const leaders = await Promise.all(members.map((member) => member.isLeader()));
      return members[leaders.indexOf(true)];
    });
    await withTraffic(async () => {
      await leader.process.kill();
      await arrives(41);
    });
    const { name, lease } = await ownKey();
    await revoke(lease);
    const again = await lab.waitFor('the lease again', ownKey);
    assert.equal(again.name, name);
    assert.notEqual(again.lease, lease);
    await leader.process.start();
    await lab.waitFor(
      'the member to be back',
      async () => (await leader.metric('etcd_server_has_leader')) === 1,
    );
  });

  it('the member that the agent watches is cut off from the others: the watch moves, nothing is torn down', async () => {
    for (const third of [42, 43, 44]) {
      // Whichever member carries the watch: over the rounds it is moved from one to the next.
      const watched = await lab.waitFor('the member with the watches', async () => {
        for (const member of members)
          if (((await member.metric('etcd_debugging_mvcc_watcher_total')) ?? 0) > 0) return member;
        return undefined;
      });
      await withTraffic(async () => {
        await watched.partition();
        const before = await routes();
        await lab.waitFor(
          'the member to miss its leader',
          async () => (await watched.metric('etcd_server_has_leader')) === 0,
        );
        assert.deepEqual(await routes(), before);
        await arrives(third);
      });
      await watched.heal();
      await lab.waitFor(
        'the member to be back',
        async () => (await watched.metric('etcd_server_has_leader')) === 1,
      );
    }
  });

  it('the node is cut off for so long that its lease expires and the history is compacted', async () => {
    const blocked = [
      'add table inet lab',
      'add chain inet lab cut { type filter hook output priority 0; }',
      'add rule inet lab cut tcp dport 2379 drop',
    ];
    await arrives(46);
    const { name, lease } = await ownKey();
    await one.exec('nft', ['-f', '-'], { input: `${blocked.join('\n')}\n` });
    const from = one.agent!.log().length;
    await revoke(lease);
    await request('kv/deleterange', { key: `${subnets}10.244.40.0-24` });
    const { key, value } = flannelLease(45, '02:00:00:00:00:45');
    await put(key, value);
    const { header } = JSON.parse(await request('kv/range', { key: subnets })) as {
      header: { revision: string };
    };
    await request('kv/compaction', { revision: header.revision, physical: true }, /has been compacted/);
    await lab.waitFor('the agent to notice', () =>
      /cannot follow the leases/.test(one.agent!.log().slice(from)),
    );
    assert.ok((await routes()).includes('10.244.40.0/24'), 'nothing is torn down meanwhile');
    await one.exec('nft', ['delete', 'table', 'inet', 'lab']);
    await lab.waitFor('what changed meanwhile', async () => {
      const now = await routes();
      return now.includes('10.244.45.0/24') && !now.includes('10.244.40.0/24');
    });
    assert.equal((await lab.waitFor('the lease again', ownKey)).name, name);
    await lab.waitFor('traffic', async () => {
      await a.probe.ask({ protocol: 'udp', address: b.ipv4, port: servicePort, timeoutMs: 500 });
      return true;
    });
  });
});
