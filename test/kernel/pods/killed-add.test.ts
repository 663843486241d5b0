import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { assertReaches, type CniNode, withCniNode } from '../../lab/cni-node.ts';
import { waitFor } from '../../lab/wait.ts';

const KILLS = 60;
const runtimeConfig = {
  portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }],
  bandwidth: { ingressRate: 8_000_000, ingressBurst: 800_000, egressRate: 8_000_000, egressBurst: 800_000 },
};

async function devices(node: CniNode): Promise<string[]> {
  const links = JSON.parse(await node.namespace.exec('ip', ['-j', 'link']));
  return links
    .map((link: { ifname: string }) => link.ifname)
    .filter((name: string) => /^(veth|ifb)/.test(name));
}

/** An ADD whose agent is killed at a random moment of it; then DEL, as a runtime does, or only the next start. */
async function killedAdd(node: CniNode, turn: number): Promise<void> {
  const container = await node.container({ runtimeConfig });
  const calling = container.call('ADD');
  // Half of them from the moment on at which the ADD has begun, which is where its devices are made.
  if (turn % 2 === 0) {
    const begun = (): boolean => readdirSync(join(node.directory, 'pods')).some((name) => /^veth/.test(name));
    await waitFor('the ADD to begin', begun);
  }
  await sleep(Math.random() * 40);
  await node.stopServer('SIGKILL');
  const { status } = await calling;
  await node.startServer();
  const records = await node.records();
  if (status !== 0 && records.length === 0)
    assert.deepEqual(await devices(node), [], 'nothing without a record');
  if (records.length > 0) assert.equal((await devices(node)).length, 2, 'a record has all its devices');
  if (status === 0) assert.equal(records.length, 1, 'an ADD that was answered is not forgotten');
  assert.equal((await container.call('DEL')).status, 0);
  assert.deepEqual(await devices(node), []);
  await container.pod.remove();
}

test(`${KILLS} killed ADDs with bandwidth and host ports leave nothing`, async (t) => {
  await Promise.all(
    ['10.244.0.0/16=10.244.7.0/24', '10.244.0.0/16=10.244.8.0/24'].map((subnets) =>
      withCniNode(async (node) => {
        const removed = (): number => node.log.match(/removing what an ADD left/g)?.length ?? 0;
        let turn = 0;
        // On a fast machine few may come while an ADD is under way: then there are more of them.
        for (; turn < KILLS / 2 || (removed() <= 3 && turn < 10 * KILLS); turn++) await killedAdd(node, turn);
        t.diagnostic(`${removed()} of ${turn} had left something`);
        assert.ok(removed() > 3, 'the kills came too late or too early');
        assert.deepEqual(
          readdirSync(join(node.directory, 'pods')).filter((name) => name.startsWith('veth')),
          [],
        );
        const clean = async (): Promise<boolean> => {
          const rules = await node.namespace.exec('iptables-nft-save', ['-t', 'nat']);
          return !/8080|TWILL/.test(rules);
        };
        await waitFor('the rules to be gone', clean);
      }, subnets),
    ),
  );
});

test('without its records the agent deletes no device of a running pod', async () => {
  await withCniNode(async (node) => {
    const pods = [await node.added({}, { runtimeConfig }), await node.added({}, { runtimeConfig })];
    const before = await devices(node);
    assert.equal(before.length, 4);
    await node.killAndForgetPods();
    await node.startServer();
    assert.deepEqual(await devices(node), before);
    for (const { pod } of pods) await assertReaches(pod, '10.244.7.1');
    for (const { call } of pods) assert.equal((await call('DEL')).status, 0);
    assert.deepEqual(await devices(node), [], 'DEL finds them by name');
  });
});
