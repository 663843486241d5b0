import assert from 'node:assert/strict';
import { readFileSync, rmSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { TENURE_MS } from '../../../src/leases/plan/tenure.ts';
import type { Credentials, EtcdUser } from '../../lab/etcd.ts';
import { etcdPrefix, type Lab, withLab } from '../../lab/lab.ts';
import type { LabNode } from '../../lab/node.ts';
import { servicePort } from '../../lab/place.ts';
import { subnetKeys } from '../../lab/two-nodes.ts';
import {
  answers,
  clusterIp,
  flagsOf,
  follows,
  onSharedStage,
  onStage,
  type Stage,
  value,
  watchPackets,
} from './compromised.ts';

const names = ['10.244.11.0-24', '10.244.12.0-24', '10.244.13.0-24'] as const;

/** As SECURITY.md has it: each node may read the configuration and all leases, and write its own key. */
const users: readonly (EtcdUser & Credentials)[] = names.map((name, index) => ({
  username: `node${index + 1}`,
  password: `secret of ${index + 1}`,
  key: subnetKeys + name,
  readable: [`${etcdPrefix}/config`],
  readablePrefix: subnetKeys,
}));

const reserve = (lab: Lab, index: number): Promise<void> =>
  lab.etcd.put(subnetKeys + names[index], JSON.stringify({ PublicIP: lab.nodes[index]!.ipv4 }));

/** Sends both ways between the pods of the others until the function that it returns is called: nothing may be lost. */
async function streams({ pods: [a, b] }: Stage): Promise<() => Promise<void>> {
  const target = { protocol: 'udp', port: servicePort, intervalMs: 5 } as const;
  const both = [
    await a.probe.stream({ ...target, address: b.ipv4 }),
    await b.probe.stream({ ...target, address: a.ipv4 }),
  ];
  return async () => {
    for (const stream of both) {
      const { sent, received } = await stream.end();
      assert.equal(received, sent);
    }
  };
}

const noPacket = async (seen: () => Promise<string>): Promise<void> => {
  const counters = await seen();
  assert.equal(counters.match(/packets 0 bytes 0/g)?.length, 2, counters);
};

/** Starts as after a reboot: nothing that was kept below /run is there. */
async function reboot(node: LabNode, user: Credentials): Promise<void> {
  await node.agent!.kill();
  rmSync(node.stateDir, { recursive: true, force: true });
  rmSync(node.subnetFile, { force: true });
  await node.namespace.ip('link delete flannel.1');
  await node.startAgent(flagsOf(user));
}

test('agents work with the right to write their own key alone, and whatever one of them writes, the others go on', async () => {
  await withLab({ nodes: 3, underlay: 'ipv4' }, async (lab) => {
    const two = lab.nodes[1]!;
    await lab.etcd.requireUsers(users);
    await two.startAgent(flagsOf(users[1]!), false);
    await lab.waitFor('the agent to say what it needs', () =>
      /put \{"PublicIP":"192\.0\.2\.12"\} under the key .*subnets\/ that it may write/.test(
        two.agent!.log().replaceAll('\\"', '"'),
      ),
    );
    for (const index of [2, 1, 0]) await reserve(lab, index);
    await two.agentReady();
    await two.agent!.stop();
    await onStage(lab, users, ownKeyAttacks);
  });
});

/** Whatever the third node writes. */
async function ownKeyAttacks(made: Stage): Promise<void> {
  const { lab, one, two, three, pods, attacker, lease } = made;
  assert.deepEqual(await Promise.all(lab.nodes.map(async (node) => (await lease(node)).name)), names);
  await answers(made);
  await three.agent!.kill();
  const seen = await watchPackets(three);
  const end = await streams(made);

  const victim = await lease(two);
  const victimKey = subnetKeys + victim.name;
  const ownKey = subnetKeys + names[2];
  const mortal = lab.etcd.client.lease(600);
  await mortal.put(`${subnetKeys}10.244.60.0-24`).value(value('192.0.2.60', '02:00:00:00:00:60'));
  const mortalId = await mortal.grant();
  for (const [what, forbidden] of [
    ['write it', () => attacker.put(victimKey).value('x')],
    ['delete it', () => attacker.delete().key(victimKey)],
    ['delete all', () => attacker.delete().prefix(subnetKeys)],
    ['make another', () => attacker.put(`${subnetKeys}10.244.99.0-24`).value(victim.value)],
    ['a part of its subnet', () => attacker.put(`${victimKey.replace('-24', '-25')}`).value(victim.value)],
    [
      'beside its own',
      () =>
        attacker
          .if(ownKey, 'Mod', '>', 0)
          .then(attacker.put(ownKey).value('x'), attacker.put(victimKey).value('x'))
          .commit(),
    ],
    ['the configuration', () => attacker.put(`${etcdPrefix}/config`).value('{}')],
    ['end another node’s etcd lease', () => attacker.leaseClient.leaseRevoke({ ID: mortalId })],
    [
      'live on it',
      () => attacker.kv.put({ key: Buffer.from(ownKey), value: Buffer.from('x'), lease: mortalId }),
    ],
  ] as const)
    await assert.rejects(async () => forbidden(), /permission denied/i, what);

  let third = 100;
  for (const text of [
    value(two.ipv4, victim.mac),
    value(one.ipv4, (await lease(one)).mac),
    value(three.ipv4, victim.mac),
    value(pods[1].ipv4, '02:00:00:00:66:01'),
    value(clusterIp, '02:00:00:00:66:02'),
    value('192.0.2.1', '02:00:00:00:66:03'),
    value('127.0.0.1', '02:00:00:00:66:04'),
    value(two.ipv4, 'ff:ff:ff:ff:ff:ff'),
    JSON.stringify({ PublicIP: two.ipv4, BackendType: 'host-gw' }),
    'rubbish',
    'x'.repeat(1_000_000),
  ]) {
    await attacker.put(ownKey).value(text);
    await attacker.delete().key(ownKey);
    await attacker.put(ownKey).value(text);
    await follows(made, third++);
  }
  await answers(made);

  // The oldest lease says all that its node could know the victim by, and the victim remembers nothing.
  await end();
  await attacker.put(ownKey).value(value(two.ipv4, victim.mac));
  await reboot(two, users[1]!);
  await one.agent!.kill();
  await one.startAgent(flagsOf(users[0]!));
  assert.ok(readFileSync(two.subnetFile, 'utf8').includes('FLANNEL_SUBNET=10.244.12.1/24'));
  await answers(made);

  // It says that it has the victim's MAC address, and the victim's lease has been written anew since.
  const before = await lease(two);
  await attacker.put(ownKey).value(value(three.ipv4, before.mac));
  await lab.etcd.put(victimKey, 'rubbish');
  await lab.waitFor('another MAC address', async () => {
    const text = await lab.etcd.get(victimKey);
    return text?.includes(two.ipv4) && !text.includes(before.mac);
  });
  await one.agent!.kill();
  await one.startAgent(flagsOf(users[0]!));
  await answers(made);
  await noPacket(seen);
  mortal.release();
}

test('a node that may delete every lease and take its subnet gets no packet for it: its owner takes it back', async () => {
  await onSharedStage(async (made) => {
    const { lab, two, three, attacker, lease } = made;
    await answers(made);
    await three.agent!.kill();
    const seen = await watchPackets(three);
    const end = await streams(made);
    const right = await lease(two);
    // Before, whoever insists may be the one who had the subnet a moment ago, and gets it.
    await sleep(TENURE_MS);
    const key = subnetKeys + right.name;
    const isRight = async (): Promise<boolean> => (await lab.etcd.get(key)) === right.value;
    const back = (): Promise<unknown> => lab.waitFor('the lease to be right again', isRight);
    const theirs = value(three.ipv4, '02:00:00:00:66:66');

    const take = async (text = theirs): Promise<void> => {
      await attacker.delete().key(key);
      await attacker.put(key).value(text);
    };
    const part = right.name.replace('-24', '-25');
    const attacks: readonly (() => Promise<unknown>)[] = [
      async () => attacker.delete().key(key),
      take,
      // All of it at once, as a node does it that takes another subnet: the victim is said to be elsewhere now.
      async () => {
        await attacker.delete().key(key);
        await attacker.put(`${subnetKeys}10.244.240.0-24`).value(right.value);
        await attacker.put(key).value(theirs);
      },
      async () => {
        await attacker.delete().key(key);
        await attacker.put(subnetKeys + part).value(theirs);
      },
      async () => {
        await attacker.leaseClient.leaseRevoke({ ID: (await lease(two)).etcdLease });
        await attacker.put(key).value(theirs);
      },
      () => take(value(two.ipv4, '02:00:00:00:66:66')),
      () => take('rubbish'),
      () => take('x'.repeat(1_000_000)),
    ];
    for (const attack of attacks) {
      await attack();
      await back();
    }
    // More often than anybody is believed who is not sure of what is his.
    for (let turn = 0; turn < 25; turn++) {
      await attacker.put(key).value(value(two.ipv4, `02:00:00:00:66:${turn + 10}`));
      await back();
    }
    // Without a pause.
    let ended = false;
    const flood = (async () => {
      while (!ended) await take();
    })();
    await follows(made, 229);
    await follows(made, 230);
    ended = true;
    await flood;
    await back();
    await lab.waitFor('what was made across it to be gone', async () =>
      (await lab.etcd.keys(subnetKeys)).every(
        ({ key: other, value: text }) => !other.endsWith(part) && (other === key || text !== right.value),
      ),
    );
    await end();
    await noPacket(seen);
    // Who starts now believes the same.
    await made.one.agent!.kill();
    await made.one.startAgent(flagsOf({ username: 'node', password: 'every node has it' }));
    await answers(made);
    await noPacket(seen);
  });
});
