// The sentences of the CNI specification 1.1.0 that bind a plugin, each tested through the executable. A test's name
// begins with the section it is about.
import assert from 'node:assert/strict';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { runChecked } from '../../../src/kernel/process.ts';
import { CniNode, type CniOptions, type CniOutcome, cniExecutable, withCniNode } from '../../lab/cni-node.ts';
import type { Namespace } from '../../lab/namespace.ts';

let node: CniNode;
let count = 0;
const latest = { cniVersion: '1.1.0' };

before(async () => {
  node = await CniNode.start();
});
after(() => node.close());

interface Subject {
  readonly pod: Namespace;
  readonly containerId: string;
  call(command: string, options?: CniOptions): Promise<CniOutcome>;
}

/** A container of its own for a test. */
async function subject(): Promise<Subject> {
  const pod = await node.pod();
  const containerId = `subject-${++count}`;
  const call = (command: string, options: CniOptions = {}): Promise<CniOutcome> =>
    node.call(command, { containerId, netns: pod.path, ...options, config: withVersion(options.config) });
  return { pod, containerId, call };
}

function withVersion(config: object | string | undefined): object | string {
  return typeof config === 'string' ? config : { ...latest, ...config };
}

async function added(options: CniOptions = {}): Promise<Subject & { readonly result: CniOutcome['json'] }> {
  const made = await subject();
  const outcome = await made.call('ADD', options);
  assert.equal(outcome.status, 0, outcome.stdout);
  return { ...made, result: outcome.json };
}

async function has(pod: Namespace, ifname: string): Promise<boolean> {
  return (await pod.run('ip', ['link', 'show', ifname])).status === 0;
}

function fails(outcome: CniOutcome, code: number, message: RegExp): void {
  assert.equal(outcome.status, 1, 'a failure has an exit status other than 0');
  assert.equal(outcome.json.code, code, outcome.stdout);
  assert.match(outcome.json.msg, message);
  assert.ok(outcome.json.cniVersion, 'an error has the version');
}

test('2 ADD: creates the interface CNI_IFNAME inside the container at CNI_NETNS', async () => {
  const { pod } = await added({ ifname: 'net7' });
  assert.ok(await has(pod, 'net7'));
});

test('2 ADD: a container may be added more than once if each addition has another interface name', async () => {
  const { pod, call, result } = await added();
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
  const { pod, call } = await subject();
  await pod.ip('link add eth0 type bridge');
  fails(await call('ADD'), 100, /EEXIST/);
  const twice = await added();
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
  const { result } = await added({ config: { prevResult } });
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
  const { result } = await added({ config: { dns: { options } } });
  assert.deepEqual(result.dns.options, options);
});

test('2 DEL: deletes the interface, and says nothing', async () => {
  const { pod, call } = await added();
  const outcome = await call('DEL');
  assert.deepEqual([outcome.status, outcome.stdout], [0, '']);
  assert.ok(!(await has(pod, 'eth0')));
});

test('2 DEL: succeeds when called again, before any ADD, and for what is gone', async () => {
  const { pod, call } = await added();
  for (let i = 0; i < 3; i++) assert.equal((await call('DEL')).status, 0);
  assert.equal((await (await subject()).call('DEL')).status, 0);
  const other = await added();
  await other.pod.ip('link del eth0');
  assert.equal((await other.call('DEL')).status, 0, 'the interface was removed by hand');
  const gone = await added();
  await gone.pod.remove();
  assert.equal((await gone.call('DEL')).status, 0, 'the namespace was removed');
  assert.ok(!(await has(pod, 'eth0')));
});

test('2 DEL: CNI_NETNS is optional, and what can be cleaned up is', async () => {
  const { pod, call } = await added();
  assert.equal((await call('DEL', { netns: undefined })).status, 0);
  assert.ok(!(await has(pod, 'eth0')));
});

test('2 DEL: a broken cache does not keep a container from being deleted', async () => {
  for (const prevResult of [{}, null, 'nonsense', { ips: 7, interfaces: [null] }, { cniVersion: '9.9' }]) {
    const { pod, call } = await added();
    assert.equal((await call('DEL', { config: { prevResult, mtu: 'broken', runtimeConfig: 3 } })).status, 0);
    assert.ok(!(await has(pod, 'eth0')));
  }
});

test('2 CHECK: succeeds immediately after ADD, and says nothing', async () => {
  const { call, result } = await added();
  const outcome = await call('CHECK', { config: { prevResult: result } });
  assert.deepEqual([outcome.status, outcome.stdout], [0, '']);
});

test('2 CHECK: consults prevResult for the expected interfaces and addresses', async () => {
  const { call, result } = await added();
  fails(await call('CHECK'), 7, /prevResult/);
  const prevResult = { ...result, ips: [{ interface: 2, address: '10.244.7.250/24' }] };
  fails(await call('CHECK', { config: { prevResult } }), 100, /10\.244\.7\./);
});

test('2 CHECK: a later plugin may have modified resources', async () => {
  const { pod, call, result } = await added();
  await pod.ip('route del default', 'addr add 198.51.100.1/24 dev eth0');
  const routes = result.routes.filter(({ dst }: { dst: string }) => dst !== '0.0.0.0/0');
  const ips = [...result.ips, { address: '198.51.100.1/24', interface: 2 }];
  assert.equal((await call('CHECK', { config: { prevResult: { ...result, routes, ips } } })).status, 0);
});

test('2 CHECK: an interface, address or route that is listed and missing is an error', async () => {
  const cases: [damage: string, message: RegExp][] = [
    ['link set eth0 down', /eth0 of the pod is down/],
    ['addr flush dev eth0', /has lost 10\.244\.7\./],
    ['route del default', /lost its route to 0\.0\.0\.0\/0/],
    ['link del eth0', /has no interface eth0/],
  ];
  for (const [damage, message] of cases) {
    const { pod, call, result } = await added();
    await pod.ip(damage);
    fails(await call('CHECK', { config: { prevResult: result } }), 100, message);
  }
});

test('2 CHECK: missing traffic shaping, firewall rules or reservations are an error', async () => {
  const bandwidth = { ingressRate: 8_000_000, ingressBurst: 800_000 };
  const shaped = await added({ config: { runtimeConfig: { bandwidth } } });
  const config = { prevResult: shaped.result };
  assert.equal((await shaped.call('CHECK', { config })).status, 0);
  await node.namespace.exec('tc', ['qdisc', 'del', 'dev', shaped.result.interfaces[1].name, 'root']);
  fails(await shaped.call('CHECK', { config }), 100, /not shaped/);
  const portMappings = [{ hostPort: 9090, containerPort: 80, protocol: 'tcp' }];
  const mapped = await added({ config: { runtimeConfig: { portMappings } } });
  assert.equal((await mapped.call('CHECK', { config: { prevResult: mapped.result } })).status, 0);
  await node.namespace.exec('iptables-nft', ['-t', 'nat', '-F', 'CNI-HOSTPORT-TWILL']);
  fails(await mapped.call('CHECK', { config: { prevResult: mapped.result } }), 100, /host ports/);
  await mapped.call('DEL');
  const { call, result } = await added();
  await call('DEL');
  fails(await call('CHECK', { config: { prevResult: result } }), 3, /has no eth0/);
});

test('2 CHECK: a container that is generally unreachable is an error', async () => {
  const { call, result } = await added();
  await node.namespace.ip(`link set ${result.interfaces[1].name} nomaster`);
  fails(await call('CHECK', { config: { prevResult: result } }), 100, /not a port of cni0/);
});

test('2 STATUS: succeeds when ADD can be served, and says nothing', async () => {
  const outcome = await node.call('STATUS', { config: latest });
  assert.deepEqual([outcome.status, outcome.stdout], [0, '']);
});

test('5 Error: STATUS says 50 when ADD cannot be served, 51 when containers may also be cut off', async () => {
  await withCniNode(async (other) => {
    const status = (): Promise<CniOutcome> => other.call('STATUS', { config: latest });
    await other.call('ADD', { netns: (await other.pod()).path });
    await other.stopServer();
    other.subnets = '';
    await other.startServer();
    fails(await status(), 50, /no pod subnet yet/);
    await other.namespace.ip('link del cni0');
    fails(await status(), 51, /bridge cni0 is gone/);
    await other.stopServer();
    fails(await status(), 50, /does not answer/);
  });
});

test('2 VERSION: answers with the version it was asked in and all that are supported', async () => {
  for (const cniVersion of ['0.3.1', '0.4.0', '1.0.0', '1.1.0']) {
    const outcome = await node.call('VERSION', { config: JSON.stringify({ cniVersion }) });
    assert.equal(outcome.status, 0);
    assert.equal(outcome.json.cniVersion, cniVersion);
    assert.ok(outcome.json.supportedVersions.includes(cniVersion));
  }
});

test('2 GC: removes the resources of attachments that are not listed, and leaves the others', async () => {
  const [kept, stale] = [await added(), await added()];
  const others = await node.pod();
  await node.call('ADD', { containerId: 'other', netns: others.path, config: { ...latest, name: 'other' } });
  const valid = [{ containerID: kept.containerId, ifname: 'eth0' }];
  const config = { ...latest, 'cni.dev/valid-attachments': valid };
  const outcome = await node.call('GC', { config });
  assert.deepEqual([outcome.status, outcome.stdout], [0, '']);
  assert.ok(await has(kept.pod, 'eth0'));
  assert.ok(!(await has(stale.pod, 'eth0')));
  assert.ok(await has(others, 'eth0'), 'another network is not touched');
  assert.equal((await stale.call('DEL')).status, 0);
  assert.equal((await node.call('GC', { config: { ...latest, 'cni.dev/valid-attachments': [] } })).status, 0);
  assert.ok(!(await has(kept.pod, 'eth0')));
  fails(await node.call('GC', { config: latest }), 7, /valid-attachments/);
});

test('2 Parameters: required variables that are missing or invalid are named, with code 4', async () => {
  const { pod } = await subject();
  for (const command of ['ADD', 'DEL', 'CHECK']) {
    fails(
      await node.call(command, { containerId: '', netns: pod.path, config: latest }),
      4,
      /CNI_CONTAINERID/,
    );
    fails(await node.call(command, { ifname: '', netns: pod.path, config: latest }), 4, /CNI_IFNAME/);
    fails(await node.call(command, { ifname: '..', netns: pod.path, config: latest }), 4, /CNI_IFNAME/);
    if (command !== 'DEL') fails(await node.call(command, { config: latest }), 4, /CNI_NETNS/);
  }
  fails(await node.call('', { config: latest }), 4, /CNI_COMMAND/);
  const environment = { CNI_ARGS: 'NOT-A-PAIR' };
  fails(await node.call('ADD', { netns: pod.path, environment, config: latest }), 4, /CNI_ARGS/);
});

test('2 Parameters: CNI_ARGS are alphanumeric pairs; IP asks for an address', async () => {
  const environment = {
    CNI_ARGS: 'IgnoreUnknown=1;K8S_POD_NAMESPACE=web;K8S_POD_NAME=front;IP=10.244.7.200',
  };
  const { call, result } = await added({ environment });
  assert.equal(result.ips[0].address, '10.244.7.200/24');
  const second = await subject();
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

test('2 Errors: an incompatible version has code 1, an undecodable configuration 6, an invalid one 7', async () => {
  const { call } = await subject();
  fails(await call('ADD', { config: { cniVersion: '0.2.0' } }), 1, /0\.2\.0/);
  fails(await call('ADD', { config: { cniVersion: '2.0.0' } }), 1, /2\.0\.0/);
  fails(await call('ADD', { config: '{' }), 6, /JSON/);
  fails(await call('ADD', { config: { name: undefined } }), 7, /name/);
  fails(await call('ADD', { config: { name: '-x' } }), 7, /name/);
  fails(await call('ADD', { config: { mtu: 'large' } }), 7, /mtu/);
  fails(await call('ADD', { config: { ipMasq: true } }), 7, /--ip-masq/);
  const portMappings = [{ hostPort: 80, containerPort: 70_000 }];
  fails(
    await call('ADD', { config: { runtimeConfig: { portMappings } } }),
    7,
    /portMappings\.0\.containerPort/,
  );
});

test('2 Errors: an unsupported field has code 2, with its key and value', async () => {
  const { call } = await subject();
  fails(await call('ADD', { config: { vlan: 7 } }), 2, /vlan is 7/);
  fails(await call('ADD', { config: { ipam: { type: 'dhcp' } } }), 2, /ipam\.type is "dhcp"/);
  fails(await call('ADD', { config: { delegate: { type: 'ipvlan' } } }), 2, /delegate\.type is "ipvlan"/);
});

test('2 Errors: a command that the version does not have is refused with code 1', async () => {
  const { call } = await subject();
  fails(await call('CHECK', { config: { cniVersion: '0.3.1' } }), 1, /CHECK/);
  fails(await call('GC', { config: { cniVersion: '1.0.0' } }), 1, /GC/);
  fails(await call('STATUS', { config: { cniVersion: '1.0.0' } }), 1, /STATUS/);
});

test('3 Lifecycle: plugins are called concurrently for different containers', async () => {
  const subjects = await Promise.all(Array.from({ length: 20 }, subject));
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
    const { result, pod } = await added({ config: { cniVersion, dns: { nameservers: ['10.0.0.10'] } } });
    assert.equal(result.cniVersion, cniVersion);
    assert.equal('version' in result.ips[0], hasVersion);
    if (hasVersion) assert.equal(result.ips[0].version, '4');
    assert.equal('mtu' in result.interfaces[2], hasMtu);
    assert.equal(result.interfaces[2].sandbox, pod.path);
    assert.ok(!('sandbox' in result.interfaces[0]) && !('sandbox' in result.interfaces[1]));
    assert.deepEqual(result.dns, { nameservers: ['10.0.0.10'] });
  }
});

test('a configuration for flannel works when only its type is changed', async () => {
  const delegate = {
    bridge: 'mynet0',
    mtu: 1400,
    hairpinMode: false,
    isDefaultGateway: true,
    forceAddress: true,
  };
  const { pod, result, call } = await added({
    config: { cniVersion: '0.3.1', name: 'cbr0', subnetFile: '/run/flannel/subnet.env', delegate },
  });
  assert.equal(result.interfaces[0].name, 'mynet0');
  const [eth0] = JSON.parse(await pod.exec('ip', ['-j', 'link', 'show', 'eth0']));
  assert.equal(eth0.mtu, 1400);
  const show = ['-j', '-d', 'link', 'show', result.interfaces[1].name];
  const [port] = JSON.parse(await node.namespace.exec('ip', show));
  assert.equal(port.linkinfo.info_slave_data.hairpin, false);
  assert.equal((await call('DEL', { config: { cniVersion: '0.3.1', name: 'cbr0', delegate } })).status, 0);
});

test('the executable needs neither Node nor this repository: only the C library', async (t) => {
  const root = mkdtempSync(join(tmpdir(), 'twill-chroot-'));
  t.after(() => rmSync(root, { recursive: true }));
  const libraries = Array.from(
    (await runChecked('ldd', [cniExecutable])).matchAll(/(\/\S+) \(/g),
    (m) => m[1]!,
  );
  for (const file of [...libraries, cniExecutable]) {
    const target = join(root, file === cniExecutable ? '/opt/cni/bin/twill' : file);
    mkdirSync(dirname(target), { recursive: true });
    copyFileSync(file, target);
  }
  for (const file of libraries)
    assert.match(file, /\/(ld-linux|lib(c|m|pthread|dl|rt)\b)[^/]*$/, 'part of glibc');
  mkdirSync(join(root, 'proc'));
  const env = { PATH: process.env.PATH, CNI_COMMAND: 'VERSION' };
  const script = 'mount -t proc proc "$0/proc" && exec chroot "$0" /opt/cni/bin/twill';
  const args = ['--mount', 'sh', '-c', script, root];
  const output = await runChecked('unshare', args, { input: '{"cniVersion":"1.1.0"}', env });
  assert.equal(JSON.parse(output).cniVersion, '1.1.0');
});
