// The sentences of the CNI specification 1.1.0 that bind a plugin, each tested through the executable. A test's name
// begins with the section it is about. Here: What holds for every command: its parameters and its errors.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { conformanceNode, fails, latest } from '../../../lab/cni-conformance.ts';

const cni = conformanceNode();

test('2 Parameters: required variables that are missing or invalid are named, with code 4', async () => {
  const { pod } = await cni.subject();
  for (const command of ['ADD', 'DEL', 'CHECK']) {
    fails(
      await cni.node.call(command, { containerId: '', netns: pod.path, config: latest }),
      4,
      /CNI_CONTAINERID/,
    );
    fails(await cni.node.call(command, { ifname: '', netns: pod.path, config: latest }), 4, /CNI_IFNAME/);
    fails(await cni.node.call(command, { ifname: '..', netns: pod.path, config: latest }), 4, /CNI_IFNAME/);
    if (command !== 'DEL') fails(await cni.node.call(command, { config: latest }), 4, /CNI_NETNS/);
  }
  fails(await cni.node.call('', { config: latest }), 4, /CNI_COMMAND/);
  const environment = { CNI_ARGS: 'NOT-A-PAIR' };
  fails(await cni.node.call('ADD', { netns: pod.path, environment, config: latest }), 4, /CNI_ARGS/);
});

test('2 Parameters: CNI_ARGS are alphanumeric pairs; IP asks for an address', async () => {
  const environment = {
    CNI_ARGS: 'IgnoreUnknown=1;K8S_POD_NAMESPACE=web;K8S_POD_NAME=front;IP=10.244.7.200',
  };
  const { call, result } = await cni.added({ environment });
  assert.equal(result.ips[0].address, '10.244.7.200/24');
  const second = await cni.subject();
  fails(await second.call('ADD', { environment }), 100, /10\.244\.7\.200 is in use/);
  fails(
    await second.call('ADD', { environment: { CNI_ARGS: 'IP=10.9.9.9' } }),
    4,
    /CNI_ARGS: IP: 10\.9\.9\.9/,
  );
  for (const ips of [['10.9.9.9/24'], ['nowhere'], ['10.244.7.1'], ['10.244.7.0']]) {
    const config = { runtimeConfig: { ips } };
    fails(await second.call('ADD', { config }), 7, new RegExp(`ips: ${ips[0]} is not a pod address`));
  }
  await call('DEL');
});

test('2 Parameters: IP in CNI_ARGS is not looked at where args ask for addresses', async () => {
  const environment = { CNI_ARGS: 'IP=10.9.9.9' };
  const args = { cni: { ips: ['10.244.7.201'] } };
  const { call, result } = await cni.added({ environment, config: { args } });
  assert.equal(result.ips[0].address, '10.244.7.201/24');
  await call('DEL');
  const both = { runtimeConfig: { ips: ['10.244.7.202'] }, args };
  fails(await (await cni.subject()).call('ADD', { config: both }), 7, /10\.244\.7\.201 is wanted beside/);
});

test('2 Errors: more input than anybody needs is the caller’s error', async () => {
  const { call } = await cni.subject();
  const huge = { dns: { options: ['x'.repeat(1 << 20)] } };
  for (const command of ['ADD', 'CHECK', 'GC', 'STATUS', 'VERSION'])
    fails(await call(command, { config: huge }), 7, /standard input has more than 1048576 bytes/);
  fails(await call('DEL', { config: { dns: 'x'.repeat(4 << 20) } }), 7, /more than 4194304 bytes/);
  fails(await call('ADD', { config: 'x'.repeat(2 << 20) }), 7, /more than/);
  const dns = { options: ['\u0001"\\'.repeat(100_000)] };
  assert.equal((await call('ADD', { config: { dns } })).status, 0, 'what is near the limit passes');
});

test('2 Errors: an incompatible version has code 1, an undecodable configuration 6, an invalid one 7', async () => {
  const { call } = await cni.subject();
  fails(await call('ADD', { config: { cniVersion: '0.2.1' } }), 1, /0\.2\.1/);
  fails(await call('ADD', { config: { cniVersion: '2.0.0' } }), 1, /2\.0\.0/);
  fails(await call('ADD', { config: '{' }), 6, /JSON/);
  fails(await call('ADD', { config: { name: undefined } }), 7, /name/);
  fails(await call('ADD', { config: { name: '-x' } }), 7, /name/);
  fails(await call('ADD', { config: { mtu: 'large' } }), 7, /mtu/);
  const portMappings = [{ hostPort: 80, containerPort: 70_000 }];
  fails(
    await call('ADD', { config: { runtimeConfig: { portMappings } } }),
    7,
    /portMappings\.0\.containerPort/,
  );
});

test('2 Errors: an unsupported field has code 2, with its key and value', async () => {
  const { call } = await cni.subject();
  fails(await call('ADD', { config: { vlan: 7 } }), 2, /vlan is 7/);
  fails(await call('ADD', { config: { ipam: { type: 'dhcp' } } }), 2, /ipam\.type is "dhcp"/);
  fails(await call('ADD', { config: { delegate: { type: 'ipvlan' } } }), 2, /delegate\.type is "ipvlan"/);
});

test('2 Errors: a command that the version does not have is refused with code 1', async () => {
  const { call } = await cni.subject();
  fails(await call('CHECK', { config: { cniVersion: '0.3.1' } }), 1, /CHECK/);
  fails(await call('GC', { config: { cniVersion: '1.0.0' } }), 1, /GC/);
  fails(await call('STATUS', { config: { cniVersion: '1.0.0' } }), 1, /STATUS/);
});
