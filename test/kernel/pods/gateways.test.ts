import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseAddress } from '../../../src/model/address.ts';
import { macOf } from '../../../src/pods/plan/wiring.ts';
import { assertReaches, type CniNode, dualStack, withCniNode } from '../../lab/cni-node.ts';
import { waitFor } from '../../lab/wait.ts';

async function addressesOfBridge(node: CniNode): Promise<string[]> {
  const [bridge] = JSON.parse(
    await node.namespace.exec('ip', ['-j', 'addr', 'show', 'cni0', 'scope', 'global']),
  );
  const shown: { local?: string; prefixlen: number }[] = bridge.addr_info;
  return shown.flatMap(({ local, prefixlen }) => (local === undefined ? [] : `${local}/${prefixlen}`));
}

async function macOfBridge({ namespace }: CniNode): Promise<string> {
  return JSON.parse(await namespace.exec('ip', ['-j', 'link', 'show', 'cni0']))[0].address;
}

test('a bridge that somebody else has made keeps one MAC, whatever pods come and go', async () => {
  await withCniNode(async (node) => {
    await node.namespace.ip('link add cni0 type bridge');
    const before = await macOfBridge(node);
    const pods = [await node.added(), await node.added(), await node.added(), await node.added()];
    for (const { call } of pods) assert.equal((await call('DEL')).status, 0);
    assert.equal(await macOfBridge(node), before);
    assert.equal(pods[3]?.result.interfaces[0].mac, before);
    // Another one, under the same agent.
    await node.namespace.ip('link del cni0', 'link add cni0 address 02:00:00:00:00:09 type bridge');
    await node.added();
    await node.added();
    assert.equal(await macOfBridge(node), '02:00:00:00:00:09');
  });
});

test('a bridge that has no MAC, since the last port of one without its own went, gets ours', async () => {
  await withCniNode(async (node) => {
    await node.namespace.ip(
      'link add cni0 type bridge',
      'link add port0 type veth peer name port1',
      'link set port0 master cni0',
      'link del port0',
    );
    assert.equal(await macOfBridge(node), '00:00:00:00:00:00');
    const ours = macOf(parseAddress('10.244.7.1'));
    const pods = [await node.added(), await node.added()];
    for (const { result } of pods) assert.equal(result.interfaces[0].mac, ours);
    for (const { call } of pods) assert.equal((await call('DEL')).status, 0);
    assert.equal(await macOfBridge(node), ours);
  });
});

test('a bridge that runs the spanning tree protocol is warned about: pods wait for its ports', async () => {
  await withCniNode(async (node) => {
    await node.stopServer();
    await node.namespace.ip('link add cni0 type bridge stp_state 1');
    await node.startServer('400');
    await node.added();
    await waitFor('the warning', () => /bridge cni0 runs the spanning tree protocol/.test(node.log));
  });
});

test('a bridge with foreign and old addresses, also the right one with another length, ends with the right ones only', async () => {
  await withCniNode(async (node) => {
    await node.namespace.ip(
      'link add cni0 type bridge',
      'link set cni0 up',
      'addr add 10.244.7.254/24 dev cni0', // the gateway becomes a secondary address of this one's network
      'addr add 10.244.7.1/16 dev cni0',
      'addr add 10.88.0.1/16 dev cni0',
      'addr add fd00:244:0:9::1/64 dev cni0 nodad',
      'addr add fd00:244:0:7::1/48 dev cni0 nodad',
    );
    const { pod } = await node.added();
    assert.deepEqual((await addressesOfBridge(node)).sort(), ['10.244.7.1/24', 'fd00:244:0:7::1/64']);
    await assertReaches(pod, '10.244.7.1');
    await assertReaches(pod, 'fd00:244:0:7::1');
    assert.match(node.log, /removing addresses that are not the gateway/);
  }, dualStack);
});

test('after the subnet changed, ADD is refused with the reason while pods use the old gateway, and works when they are gone', async () => {
  await withCniNode(async (node) => {
    const old = await node.added();
    await node.stopServer();
    node.subnets = '10.244.0.0/16=10.244.8.0/24';
    await node.startServer('2000');
    const young = await node.container();
    const refused = await young.call('ADD');
    assert.equal(refused.json.code, 11, refused.stdout);
    assert.match(
      refused.json.msg,
      new RegExp(
        `cni0: 10\\.244\\.7\\.1/24 is the gateway of pods of another subnet \\(${old.containerId}\\)`,
      ),
    );
    const status = await node.call('STATUS', { config: { cniVersion: '1.1.0' } });
    assert.equal(status.json.code, 50, status.stdout);
    await assertReaches(old.pod, '10.244.7.1');
    assert.equal((await old.call('DEL')).status, 0);
    await waitFor('the pod to be added', async () => (await young.call('ADD')).status === 0);
    assert.deepEqual(await addressesOfBridge(node), ['10.244.8.1/24']);
    await assertReaches(young.pod, '10.244.8.1');
    assert.equal((await node.call('STATUS', { config: { cniVersion: '1.1.0' } })).status, 0);
  });
});

test('a bridge with an uplink is its administrator’s: his addresses stay', async () => {
  await withCniNode(async (node) => {
    await node.namespace.ip(
      'link add cni0 type bridge',
      'link add uplink0 type ifb',
      'link set uplink0 master cni0',
      'link set cni0 up',
      'addr add 192.0.2.10/24 dev cni0',
    );
    await node.added();
    assert.deepEqual((await addressesOfBridge(node)).sort(), ['10.244.7.1/24', '192.0.2.10/24']);
  });
});
