// The sentences of the CNI specification 1.1.0 that bind a plugin, each tested through the executable. A test's name
// begins with the section it is about. Here: ADD, and what it answers.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { conformanceNode, fails, has } from '../../../lab/cni-conformance.ts';
import { dualStack, withCniNode } from '../../../lab/cni-node.ts';

const cni = conformanceNode();

test('2 ADD: creates the interface CNI_IFNAME inside the container at CNI_NETNS', async () => {
  const { pod } = await cni.added({ ifname: 'net7' });
  assert.ok(await has(pod, 'net7'));
});

test('2 ADD: a container may be added more than once if each addition has another interface name', async () => {
  const { pod, call, result } = await cni.added();
  const second = await call('ADD', { ifname: 'eth1' });
  assert.equal(second.status, 0, second.stdout);
  assert.ok((await has(pod, 'eth0')) && (await has(pod, 'eth1')));
  assert.notEqual(second.json.ips[0].address, result.ips[0].address);
  const defaultRoute = (): Promise<string> => pod.exec('ip', ['route', 'get', '198.51.100.1']);
  assert.match(await defaultRoute(), /dev eth0/, 'the routes of the first interface stay');
  assert.equal((await call('DEL', { ifname: 'eth1' })).status, 0);
  assert.ok(await has(pod, 'eth0'), 'the other stays');
  assert.match(await defaultRoute(), /dev eth0/);
  await call('ADD', { ifname: 'eth1' });
  assert.equal((await call('DEL', { ifname: 'eth0' })).status, 0);
  assert.match(await defaultRoute(), /dev eth1/, 'the second one takes its place');
});

test('2 ADD: an interface of the requested name that exists already is an error', async () => {
  const { pod, call } = await cni.subject();
  await pod.ip('link add eth0 type bridge');
  fails(await call('ADD'), 100, /EEXIST/);
  const twice = await cni.added();
  fails(await twice.call('ADD'), 100, /already/);
});

test('2 ADD: a prevResult is handled, and comes out with the additions', async () => {
  const prevResult = {
    cniVersion: '1.1.0',
    interfaces: [{ name: 'dummy0', sandbox: '/x' }],
    ips: [{ interface: 0, address: '198.51.100.7/24' }],
    routes: [{ dst: '198.51.100.0/24' }],
    dns: { nameservers: ['198.51.100.53'] },
  };
  const { result } = await cni.added({ config: { prevResult } });
  assert.deepEqual(result.interfaces[0], prevResult.interfaces[0]);
  assert.equal(result.interfaces[3].name, 'eth0');
  assert.deepEqual(
    result.ips.map((ip: { interface: number }) => ip.interface),
    [0, 3],
  );
  assert.deepEqual(result.routes[0], prevResult.routes[0]);
  assert.deepEqual(result.dns, prevResult.dns);
});

test('2 ADD: a configuration and a result of any size and script pass unharmed', async () => {
  const options = Array.from({ length: 20_000 }, (_, index) => `größe-${index}`);
  const { result } = await cni.added({ config: { dns: { options } } });
  assert.deepEqual(result.dns.options, options);
});

test('3 Lifecycle: plugins are called concurrently for different containers', async () => {
  const subjects = await Promise.all(Array.from({ length: 20 }, () => cni.subject()));
  const outcomes = await Promise.all(subjects.map(({ call }) => call('ADD')));
  const addresses = new Set(outcomes.map(({ json }) => json.ips[0].address));
  assert.equal(addresses.size, subjects.length, 'each has an address of its own');
  await Promise.all(subjects.map(({ call }) => call('DEL')));
});

test('5 Result types: each version has its own shape', async () => {
  for (const [cniVersion, hasVersion, hasMtu] of [
    ['0.3.1', true, false],
    ['0.4.0', true, false],
    ['1.0.0', false, false],
    ['1.1.0', false, true],
  ] as const) {
    const { result, pod } = await cni.added({ config: { cniVersion, dns: { nameservers: ['10.0.0.10'] } } });
    assert.equal(result.cniVersion, cniVersion);
    assert.equal('version' in result.ips[0], hasVersion);
    if (hasVersion) assert.equal(result.ips[0].version, '4');
    assert.equal('mtu' in result.interfaces[2], hasMtu);
    assert.equal(result.interfaces[2].sandbox, pod.path);
    assert.ok(!('sandbox' in result.interfaces[0]) && !('sandbox' in result.interfaces[1]));
    assert.deepEqual(result.dns, { nameservers: ['10.0.0.10'] });
  }
});

test('5 Result types: versions before 0.3.0, and none, have an address of each family as the bridge plugin says it', async () => {
  await withCniNode(async (node) => {
    const route = { dst: '192.0.2.0/24', gw: '10.244.7.9' };
    for (const cniVersion of ['0.1.0', '0.2.0', '', undefined]) {
      const dns = { nameservers: ['10.0.0.10'] };
      const config = { cniVersion, name: 'cbr0', dns, ipam: { routes: [route] } };
      const { pod, result, call } = await node.added({ config });
      const { cniVersion: said, ip4, ip6, ...rest } = result;
      assert.equal(said, cniVersion || '0.1.0');
      assert.deepEqual(rest, { dns });
      const own = JSON.parse(await pod.exec('ip', ['-j', 'addr', 'show', 'eth0']))[0].addr_info;
      const ofKernel = own.map(
        ({ local, prefixlen }: { local: string; prefixlen: number }) => `${local}/${prefixlen}`,
      );
      assert.deepEqual([ip4.ip, ip6.ip], ofKernel.slice(0, 2));
      assert.deepEqual([ip4.gateway, ip6.gateway], ['10.244.7.1', 'fd00:244:0:7::1']);
      const viaGateway = ['10.244.0.0/16', '0.0.0.0/0'].map((dst) => ({ dst, gw: '10.244.7.1' }));
      assert.deepEqual(ip4.routes, [...viaGateway, route]);
      assert.deepEqual(ip6.routes.at(-1), { dst: '::/0', gw: 'fd00:244:0:7::1' });
      fails(
        await call('CHECK', { config: { ...config, prevResult: result } }),
        1,
        /CHECK came with cniVersion 0\.4\.0/,
      );
      assert.equal((await call('DEL', { config })).status, 0);
    }
  }, dualStack);
});

test('a configuration for flannel works when only its type is changed', () =>
  withCniNode(async (node) => {
    const delegate = {
      bridge: 'mynet0',
      mtu: 1400,
      hairpinMode: false,
      isDefaultGateway: true,
      forceAddress: true,
    };
    const { pod, result, call } = await node.added({
      config: { cniVersion: '0.3.1', name: 'cbr0', subnetFile: '/run/flannel/subnet.env', delegate },
    });
    assert.equal(result.interfaces[0].name, 'mynet0');
    const [eth0] = JSON.parse(await pod.exec('ip', ['-j', 'link', 'show', 'eth0']));
    assert.equal(eth0.mtu, 1400);
    const show = ['-j', '-d', 'link', 'show', result.interfaces[1].name];
    const [port] = JSON.parse(await node.namespace.exec('ip', show));
    assert.equal(port.linkinfo.info_slave_data.hairpin, false);
    assert.equal((await call('DEL', { config: { cniVersion: '0.3.1', name: 'cbr0', delegate } })).status, 0);
  }));
