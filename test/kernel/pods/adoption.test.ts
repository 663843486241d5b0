import assert from 'node:assert/strict';
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { assertReaches, fetchFrom, serveName, withCniNode } from '../../lab/cni-node.ts';
import { type ChainPod, FlannelChain } from '../../lab/flannel-chain.ts';
import type { Namespace } from '../../lab/namespace.ts';
import { addressOf, hostPort, withOldNode } from '../../lab/old-node.ts';
import { waitFor } from '../../lab/wait.ts';

test("pods of flannel's chain are adopted: no address twice, listed, checked, and deleted with all they have", async () => {
  await withOldNode(async ({ node, add, natTable, reservations }) => {
    const olds = [await add('old-a', hostPort(8080)), await add('old-b'), await add('old-c')];
    for (const { namespace, containerId } of olds) await serveName(namespace, containerId, 80);
    await node.startServer();
    const records = await node.records();
    assert.deepEqual(
      records.map(({ containerId, addresses }) => [containerId, addresses[0]!.address]).sort(),
      olds.map(({ containerId, result }) => [containerId, result.ips[0].address]).sort(),
    );
    const ports = records.find(({ containerId }) => containerId === 'old-a')?.portMappings;
    assert.deepEqual(ports, [{ protocol: 'tcp', hostPort: 8080, containerPort: 80 }]);
    const young = await node.added();
    assert.ok(!olds.some(({ result }) => addressOf(result) === addressOf(young.result)));
    for (const old of olds) await assertReaches(young.pod, addressOf(old.result));
    assert.equal(await fetchFrom(node.namespace, '10.244.7.1', 8080), 'old-a');
    for (const { containerId, namespace, result } of olds) {
      const checked = await node.call('CHECK', {
        containerId,
        netns: namespace.path,
        config: { prevResult: result },
      });
      assert.equal(checked.status, 0, checked.stdout);
    }
    assert.equal(reservations().length, 3);
    for (const { containerId, namespace } of olds)
      assert.equal((await node.call('DEL', { containerId, netns: namespace.path })).status, 0);
    assert.deepEqual(reservations(), []);
    assert.equal((await node.hostVeths()).length, 1);
    assert.doesNotMatch(await natTable(), /CNI-DN-|8080/);
    assert.equal((await node.records()).length, 1);
  });
});

test('a new pod with the host port of an old one comes first, also over restarts and after the old one is gone', async () => {
  await withOldNode(async ({ node, add, natTable }) => {
    const old = await add('old', hostPort(8080));
    await serveName(old.namespace, 'old', 80);
    await node.startServer();
    assert.equal(await fetchFrom(node.namespace, '10.244.7.1', 8080), 'old');
    const young = await node.added({}, { runtimeConfig: hostPort(8080) });
    await serveName(young.pod, 'young', 80);
    assert.equal(await fetchFrom(node.namespace, '10.244.7.1', 8080), 'young');
    await node.stopServer('SIGKILL');
    await node.startServer();
    assert.equal(await fetchFrom(node.namespace, '10.244.7.1', 8080), 'young');
    assert.equal((await node.call('DEL', { containerId: 'old', netns: old.netns })).status, 0);
    assert.equal(await fetchFrom(node.namespace, '10.244.7.1', 8080), 'young');
    await young.call('DEL');
    assert.doesNotMatch(await natTable(), /CNI-DN-|8080/);
  });
});

test('after a lost state directory our own pods are known again, with addresses, keys and host ports', async () => {
  await withCniNode(async (node) => {
    const pods = [await node.added({}, { runtimeConfig: hostPort(8081) }), await node.added()];
    await serveName(pods[0]!.pod, 'first', 80);
    const before = (await node.records()).map(({ containerId, network, addresses }) => [
      network,
      containerId,
      addresses,
    ]);
    await node.killAndForgetPods();
    await node.startServer();
    const after = (await node.records()).map(({ containerId, network, addresses }) => [
      network,
      containerId,
      addresses,
    ]);
    assert.deepEqual(after.sort(), before.sort());
    assert.equal(await fetchFrom(node.namespace, '10.244.7.1', 8081), 'first');
    const again = await pods[0]!.call('ADD');
    assert.match(again.json.msg, /DEL must come first/);
    const added = await node.added();
    assert.ok(!pods.some(({ result }) => addressOf(result) === addressOf(added.result)));
    for (const { call, result } of pods) {
      assert.equal((await call('CHECK', { config: { prevResult: result } })).status, 0);
      assert.equal((await call('DEL')).status, 0);
    }
    assert.equal((await node.hostVeths()).length, 1);
  });
});

test('a pod of which nobody knows the container, and one in no folder of namespaces, keep their addresses', async () => {
  await withOldNode(async ({ node, add, reservations }) => {
    const old = await add('nameless');
    const reserved = join(node.directory, 'cni-data/networks/cbr0');
    for (const name of reservations()) rmSync(join(reserved, name));
    // What a process is in, and no path of a runtime's leads to.
    const hidden = await add('hidden');
    await serveName(hidden.namespace, 'hidden', 80);
    await node.namespace.exec('ip', ['netns', 'del', hidden.namespace.name]);
    await node.startServer();
    const held = (await node.records()).map(({ addresses }) => addresses[0]!.address);
    assert.deepEqual(held.sort(), [old, hidden].map(({ result }) => result.ips[0].address).sort());
    const [nameless] = await node.records();
    assert.equal((await node.added()).result.ips[0].address, '10.244.7.4/24');
    assert.ok(nameless);
  });
});

test('addresses that host-local gave out to nobody that is seen are kept for a while; an ADD under way keeps its', async () => {
  await withOldNode(async ({ node }) => {
    const reserved = join(node.directory, 'cni-data/networks/cbr0');
    mkdirSync(reserved, { recursive: true });
    for (const last of [2, 3]) writeFileSync(join(reserved, `10.244.7.${last}`), 'gone\r\neth0');
    writeFileSync(join(reserved, 'last_reserved_ip.0'), '10.244.7.3');
    const [first, second] = [await node.container(), await node.container()];
    const container = await node.container({ args: { cni: { ips: ['10.244.7.2'] } } });
    // Long enough for an ADD on a busy machine.
    await node.startServer('5000');
    assert.equal((await first.call('ADD')).json.ips[0].address, '10.244.7.4/24');
    // The old chain's, a moment before it makes the device.
    writeFileSync(join(reserved, '10.244.7.5'), 'coming\r\neth0');
    assert.equal((await second.call('ADD')).json.ips[0].address, '10.244.7.6/24');
    await waitFor('the leaked address to be free', async () => (await container.call('ADD')).status === 0);
  });
});

test('rules of containers that are gone are removed, at start and by GC; those of others are not', async () => {
  await withOldNode(async ({ node, chain, add, natTable }) => {
    const alive = await add('alive', hostPort(8080));
    const foreign = new FlannelChain({
      node: node.namespace,
      dataDir: join(node.directory, 'other'),
      subnet: '10.99.0.0/24',
      network: '10.99.0.0/16',
      bridge: 'other0',
    });
    /** A pod that goes without DEL: its device and its reservation with it, its rules not. */
    const vanish = async (pod: ChainPod, namespace: Namespace, reservation: string): Promise<void> => {
      rmSync(reservation);
      await namespace.remove();
      await node.namespace.ip(`link del ${pod.result.interfaces[1].name}`).catch(() => '');
    };
    const goneNamespace = await node.pod();
    const gone = await chain.add('gone', goneNamespace.path, hostPort(8081));
    const otherNamespace = await node.pod();
    const other = await foreign.add('other-network', otherNamespace.path, hostPort(8082));
    const folder = join(node.directory, 'cni-data/networks/cbr0');
    await vanish(gone, goneNamespace, join(folder, addressOf(gone.result)));
    await vanish(other, otherNamespace, join(node.directory, 'other/networks/cbr0', addressOf(other.result)));
    await node.startServer();
    await waitFor('its rules to go', async () => !/--dports? 8081|id: \\"gone\\"/.test(await natTable()));
    const table = await natTable();
    assert.match(table, /id: \\"alive\\"/);
    assert.match(table, /id: \\"other-network\\"/, "another network's rules are not ours to judge");
    const laterNamespace = await node.pod();
    const later = await chain.add('later', laterNamespace.path, hostPort(8083));
    await vanish(later, laterNamespace, join(folder, addressOf(later.result)));
    const valid = { cniVersion: '1.1.0', 'cni.dev/valid-attachments': [] };
    assert.equal((await node.call('GC', { config: valid })).status, 0);
    assert.doesNotMatch(await natTable(), /id: \\"later\\"/);
    assert.equal((await node.records()).length, 1, 'a pod of another network name is not collected');
    await assertReaches(node.namespace, addressOf(alive.result));
    assert.ok(existsSync(join(folder, addressOf(alive.result))));
  });
});
