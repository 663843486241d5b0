import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertReaches, type CniNode, withCniNode } from '../../lab/cni-node.ts';

test('ADD wires a pod: addresses, routes, MTU, bridge port with hairpin; DEL takes all of it away', async () => {
  await withCniNode(async (node) => {
    const pod = await node.pod();
    const added = await node.call('ADD', { netns: pod.path });
    assert.equal(added.status, 0, added.stdout);
    const [bridge, host, inner] = added.json.interfaces;
    assert.equal(added.json.cniVersion, '1.0.0');
    assert.equal(bridge.name, 'cni0');
    assert.deepEqual(added.json.ips, [{ interface: 2, address: '10.244.7.2/24', gateway: '10.244.7.1' }]);
    assert.deepEqual(inner, { name: 'eth0', mac: '0a:58:0a:f4:07:02', sandbox: pod.path });
    const [eth0] = JSON.parse(await pod.exec('ip', ['-j', 'addr', 'show', 'eth0']));
    assert.equal(eth0.address, inner.mac);
    assert.equal(eth0.mtu, 1450);
    assert.ok(eth0.flags.includes('UP'));
    const inet = eth0.addr_info.find((info: { family: string }) => info.family === 'inet');
    assert.equal(`${inet.local}/${inet.prefixlen}`, '10.244.7.2/24');
    const routes = await pod.exec('ip', ['route']);
    assert.match(routes, /^default via 10\.244\.7\.1 dev eth0/m);
    assert.match(routes, /^10\.244\.0\.0\/16 via 10\.244\.7\.1 dev eth0/m);
    const [port] = JSON.parse(await node.namespace.exec('ip', ['-j', '-d', 'link', 'show', host.name]));
    assert.equal(port.master, 'cni0');
    assert.equal(port.address, host.mac);
    assert.equal(port.linkinfo.info_slave_data.hairpin, true);
    await assertReaches(pod, '10.244.7.1');
    await assertReaches(node.namespace, '10.244.7.2');

    const deleted = await node.call('DEL', { netns: pod.path });
    assert.deepEqual([deleted.status, deleted.stdout], [0, '']);
    assert.deepEqual(await node.hostVeths(), []);
    assert.equal((await pod.run('ip', ['link', 'show', 'eth0'])).status, 1);
    assert.equal((await node.call('DEL', { netns: pod.path })).status, 0, 'a second DEL succeeds');
  });
});

test('two pods have different addresses and reach each other; a freed address is not given out at once', async () => {
  await withCniNode(async (node) => {
    const [a, b, c] = [await node.pod(), await node.pod(), await node.pod()];
    await node.call('ADD', { containerId: 'a', netns: a.path });
    await node.call('ADD', { containerId: 'b', netns: b.path });
    await assertReaches(a, '10.244.7.3');
    await node.call('DEL', { containerId: 'a', netns: a.path });
    const added = await node.call('ADD', { containerId: 'c', netns: c.path });
    assert.equal(added.json.ips[0].address, '10.244.7.4/24');
  });
});

test('what an ADD that failed had begun is undone', async () => {
  await withCniNode(async (node) => {
    const pod = await node.pod();
    await pod.ip('link add eth0 type bridge');
    const refused = await node.call('ADD', { netns: pod.path });
    assert.equal(refused.status, 1);
    assert.equal(refused.json.code, 100);
    assert.match(refused.json.msg, /EEXIST/);
    assert.deepEqual(await node.hostVeths(), []);
    await pod.ip('link del eth0');
    assert.equal((await node.call('ADD', { netns: pod.path })).status, 0);
    const again = await node.call('ADD', { netns: pod.path });
    assert.match(again.json.msg, /DEL must come first/);
    assert.equal((await pod.run('ip', ['link', 'show', 'eth0'])).status, 0, 'the first ADD stands');
  });
});

test('a full subnet is answered with an error that names it, by ADD and by STATUS', async () => {
  await withCniNode(async (node) => {
    const [a, b] = [await node.pod(), await node.pod()];
    assert.equal((await node.call('STATUS', { config: { cniVersion: '1.1.0' } })).status, 0);
    assert.equal((await node.call('ADD', { containerId: 'a', netns: a.path })).status, 0);
    const full = await node.call('ADD', { containerId: 'b', netns: b.path });
    assert.equal(full.json.code, 101);
    assert.match(full.json.msg, /10\.244\.7\.0\/30 are in use/);
    assert.equal((await node.call('STATUS', { config: { cniVersion: '1.1.0' } })).json.code, 50);
    await node.call('DEL', { containerId: 'a', netns: a.path });
    assert.equal((await node.call('ADD', { containerId: 'b', netns: b.path })).status, 0);
  }, '10.244.0.0/16=10.244.7.0/30');
});

test('bad input is refused with the code of the specification and a message that names it', async () => {
  await withCniNode(async (node) => {
    const pod = await node.pod();
    const cases: [string, Parameters<CniNode['call']>[1], number, RegExp][] = [
      ['ADD', { netns: pod.path, config: '{"name":' }, 6, /not a JSON object/],
      ['ADD', { netns: pod.path, config: '[]' }, 6, /not a JSON object/],
      ['ADD', {}, 4, /CNI_NETNS/],
      ['ADD', { netns: pod.path, containerId: '' }, 4, /CNI_CONTAINERID/],
      ['ADD', { netns: pod.path, containerId: '../x' }, 4, /CNI_CONTAINERID/],
      ['ADD', { netns: pod.path, ifname: 'a/b' }, 4, /CNI_IFNAME/],
      ['ADD', { netns: pod.path, ifname: 'sixteen-letters-' }, 4, /CNI_IFNAME/],
      // The kernel would make eth0 of it.
      ['ADD', { netns: pod.path, ifname: 'eth%d' }, 4, /CNI_IFNAME 'eth%d'/],
      ['ADD', { netns: pod.path, ifname: 'default' }, 4, /CNI_IFNAME 'default'/],
      ['ADD', { netns: pod.path, ifname: 'éééééééé' }, 4, /CNI_IFNAME 'é+' must have at most 15/],
      ['ADD', { netns: pod.path, config: { socket: 5 } }, 7, /socket is 5: it must be a path/],
      ['ADD', { netns: pod.path, config: { timeoutSeconds: '60' } }, 7, /timeoutSeconds is "60"/],
      ['STATUS', { config: { cniVersion: '1.1.0', timeoutSeconds: -1 } }, 7, /timeoutSeconds is -1/],
      ['ADD', { netns: `${pod.path}-gone` }, 3, /CNI_NETNS.*-gone' does not exist/],
      ['ADD', { netns: node.namespace.path }, 4, /node's own network namespace/],
      ['ADD', { netns: '/etc/hostname' }, 4, /not a network namespace/],
      ['ADD', { netns: pod.path, config: { cniVersion: '0.2.1' } }, 1, /0\.2\.1/],
      ['ADD', { netns: pod.path, config: { name: '' } }, 7, /name/],
      ['JUMP', { netns: pod.path }, 4, /CNI_COMMAND/],
    ];
    for (const [command, options, code, message] of cases) {
      const outcome = await node.call(command, options);
      assert.equal(outcome.status, 1, `${command} ${JSON.stringify(options)}`);
      assert.equal(outcome.json.code, code, outcome.stdout);
      assert.match(outcome.json.msg, message);
    }
    assert.deepEqual(await node.hostVeths(), []);
    for (const timeoutSeconds of [1e308, 30.5, 0, null]) {
      const { status, json } = await node.call('STATUS', { config: { cniVersion: '1.1.0', timeoutSeconds } });
      assert.equal(status, 0, `${timeoutSeconds}: ${json?.msg}`);
    }
  });
});

test('without the agent: ADD asks to try again and names the socket, DEL is queued and carried out later', async () => {
  await withCniNode(async (node) => {
    const pod = await node.pod();
    assert.equal((await node.call('ADD', { netns: pod.path })).status, 0);
    await node.stopServer('SIGKILL');
    const other = await node.call('ADD', { containerId: 'c2', netns: pod.path, ifname: 'eth1' });
    assert.equal(other.json.code, 11);
    assert.match(other.json.msg, new RegExp(`${node.socketPath}`));
    assert.equal((await node.call('STATUS', { config: { cniVersion: '1.1.0' } })).json.code, 50);
    assert.equal((await node.call('DEL', { netns: pod.path })).status, 0);
    assert.equal((await node.hostVeths()).length, 1);
    await node.startServer();
    assert.deepEqual(await node.hostVeths(), []);
    const added = await node.call('ADD', { netns: pod.path });
    assert.equal(added.json.ips[0].address, '10.244.7.3/24', 'the round goes on after a restart');
    await node.stopServer('SIGKILL');
    await node.startServer();
    const second = await node.call('ADD', { netns: pod.path, ifname: 'eth1' });
    assert.equal(second.json.ips[0].address, '10.244.7.4/24', 'the addresses in use are remembered');
  });
});

test('while the node has no subnet ADD asks to try again with the reason', async () => {
  await withCniNode(async (node) => {
    const pod = await node.pod();
    const outcome = await node.call('ADD', { netns: pod.path });
    assert.equal(outcome.json.code, 11);
    assert.match(outcome.json.msg, /no pod subnet yet: no subnet was given/);
  }, '');
});

test('VERSION is answered without the agent', async () => {
  await withCniNode(async (node) => {
    await node.stopServer();
    const outcome = await node.call('VERSION');
    assert.equal(outcome.status, 0);
    assert.equal(outcome.json.cniVersion, '1.0.0');
    assert.ok(outcome.json.supportedVersions.includes('1.1.0'));
  });
});
