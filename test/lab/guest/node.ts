// What a machine's first agent and proxy do, from their start to their end. This program runs in the machine; it imports
// next to nothing, since an emulated processor takes its time over every line. What it finds is said as it goes.
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, type SpawnSyncReturns, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { root } from '../files.ts';

const etcdUrl = 'http://127.0.0.1:2379';
const work = '/run/work';
const program = join(root, 'dist/main.js');
const children: ChildProcess[] = [];
const started = process.hrtime.bigint();

export function say(text: string): void {
  process.stdout.write(`${(Number(process.hrtime.bigint() - started) / 1e9).toFixed(1)} s: ${text}\n`);
}

export function sh(script: string): string {
  return execFileSync('/bin/sh', ['-ec', script], { encoding: 'utf8' });
}

async function until(what: string, check: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 400_000;
  for (;;) {
    if (await Promise.resolve(check()).catch(() => false)) return;
    if (Date.now() > deadline) throw new Error(`timed out waiting for ${what}`);
    await sleep(500);
  }
}

const isOk = async (url: string): Promise<boolean> => (await fetch(url)).ok;

function log(name: string): string {
  const path = join(work, `${name}.log`);
  return existsSync(path) ? readFileSync(path, 'utf8') : '';
}

function start(name: string, args: readonly string[]): ChildProcess {
  const child = spawn('/bin/sh', ['-c', `exec "$@" >${work}/${name}.log 2>&1`, 'sh', ...args]);
  children.push(child);
  return child;
}

async function put(key: string, value: object): Promise<void> {
  const base64 = (text: string): string => Buffer.from(text).toString('base64');
  const body = JSON.stringify({
    key: base64(`/coreos.com/network/${key}`),
    value: base64(JSON.stringify(value)),
  });
  assert.ok((await fetch(`${etcdUrl}/v3/kv/put`, { method: 'POST', body })).ok);
}

function cni(command: string, pod: string, config: object = {}): SpawnSyncReturns<string> {
  return spawnSync(join(root, 'dist/cni/twill'), {
    encoding: 'utf8',
    input: JSON.stringify({
      cniVersion: '1.1.0',
      name: 'net',
      type: 'twill',
      timeoutSeconds: 300,
      ...config,
    }),
    env: {
      CNI_COMMAND: command,
      CNI_CONTAINERID: pod,
      CNI_NETNS: `/run/netns/${pod}`,
      CNI_IFNAME: 'eth0',
      CNI_PATH: '/opt/cni/bin',
    },
  });
}

// biome-ignore lint/suspicious/noExplicitAny: a CNI result
function added(pod: string, config: object = {}): any {
  sh(`ip netns add ${pod}; ip -n ${pod} link set lo up`);
  const outcome = cni('ADD', pod, config);
  assert.equal(outcome.status, 0, `ADD ${pod}: ${outcome.stdout}${outcome.stderr}`);
  return JSON.parse(outcome.stdout);
}

/** What a server says. @param from the name of a namespace, or nothing for the node */
function ask(from: string, address: string, port: number): string {
  const prefix = from === '' ? [] : ['ip', 'netns', 'exec', from];
  const [first = '', ...args] = [...prefix, 'timeout', '5', 'bash', '-c', `cat </dev/tcp/${address}/${port}`];
  return spawnSync(first, args, { encoding: 'utf8' }).stdout.trim();
}

/** The uplink, a machine behind it, etcd with a network and another node's lease. */
async function prepare(): Promise<void> {
  mkdirSync(join(work, 'manifests'), { recursive: true });
  // As kubeadm's instructions have it: without, a pod does not reach a Service's pod on its own node.
  sh('/run/modprobe br_netfilter');
  sh(`ip netns add outside; ip link add eth0 type veth peer name eth0 netns outside
    ip addr add 192.0.2.1/24 dev eth0; ip link set eth0 up; ip route add default via 192.0.2.9
    ip -n outside addr add 192.0.2.9/24 dev eth0; ip -n outside link set eth0 up; ip -n outside link set lo up`);
  // Debian's is of the days when it was not tested there.
  process.env.ETCD_UNSUPPORTED_ARCH = process.arch;
  start('etcd', ['etcd', `--data-dir=${work}/etcd`, '--unsafe-no-fsync', '--log-level=error']);
  await until('etcd', () => isOk(`${etcdUrl}/health`));
  // The lease below is another node's: ours is never the same by chance.
  await put('config', { Network: '10.244.0.0/16', SubnetMin: '10.244.10.0', Backend: { Type: 'vxlan' } });
  const BackendData = { VNI: 1, VtepMAC: '02:00:00:00:00:09' };
  await put('subnets/10.244.9.0-24', { PublicIP: '192.0.2.9', BackendType: 'vxlan', BackendData });
  say('etcd serves');
}

async function startTwill(): Promise<ChildProcess[]> {
  const agent = start('agent', [
    program,
    'agent',
    `--etcd-endpoints=${etcdUrl}`,
    '--ip-masq',
    '--healthz-port=9097',
  ]);
  const proxy = start('proxy', [
    program,
    ...['proxy', `--manifests=${work}/manifests`, '--hostname-override=node', '--cluster-cidr=10.244.0.0/16'],
  ]);
  await until('the agent', () => isOk('http://127.0.0.1:9097/readyz'));
  say('the agent is ready');
  return [agent, proxy];
}

function service(address: string): string {
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'List',
    items: [
      {
        apiVersion: 'v1',
        kind: 'Service',
        metadata: { name: 'far', namespace: 'default' },
        spec: {
          clusterIP: '10.96.0.10',
          ports: [{ name: 'tcp', protocol: 'TCP', port: 80, targetPort: 8080 }],
        },
      },
      {
        apiVersion: 'discovery.k8s.io/v1',
        kind: 'EndpointSlice',
        metadata: { name: 'far-1', namespace: 'default', labels: { 'kubernetes.io/service-name': 'far' } },
        addressType: 'IPv4',
        endpoints: [{ addresses: [address], conditions: { ready: true }, nodeName: 'node' }],
        ports: [{ name: 'tcp', protocol: 'TCP', port: 8080 }],
      },
    ],
  });
}

async function pods(): Promise<void> {
  const capable = {
    runtimeConfig: {
      portMappings: [{ hostPort: 9080, containerPort: 8080, protocol: 'tcp' }],
      bandwidth: { ingressRate: 80_000_000, egressRate: 80_000_000 },
    },
  };
  const far = added('far', capable);
  added('near');
  const [address] = far.ips[0].address.split('/');
  const serve = ['/run/busybox', 'nc', '-ll', '-p', '8080', '-e', '/bin/echo', 'far'];
  start('server', ['ip', 'netns', 'exec', 'far', ...serve]);
  writeFileSync(join(work, 'manifests/far.yaml'), service(address));
  await until('the pod', () => ask('near', address, 8080) === 'far');
  await until('the Service', () => ask('near', '10.96.0.10', 80) === 'far');
  for (const [from, to, port] of [
    ['', address, 8080],
    ['', '10.96.0.10', 80],
    ['', '127.0.0.1', 9080],
    ['outside', '192.0.2.1', 9080],
    ['near', '192.0.2.1', 9080],
    ['far', '192.0.2.1', 9080],
    ['far', '10.96.0.10', 80],
  ] as const)
    await until(`an answer to ${from || 'the node'} from ${to}:${port}`, () => ask(from, to, port) === 'far');
  assert.match(sh('ip route'), /10\.244\.9\.0\/24 .*dev flannel\.1/);
  assert.match(sh('bridge fdb show dev flannel.1'), /02:00:00:00:00:09 dst 192\.0\.2\.9/);
  say('pods reach each other, host ports and the Service');
  const tracking = sh(
    'cd /proc/sys/net/netfilter; cat nf_conntrack_tcp_timeout_established nf_conntrack_max',
  );
  assert.equal(
    tracking,
    '86400\n131072\n',
    'the proxy has set them though the module was not there at its start',
  );
  const checked = cni('CHECK', 'far', { ...capable, prevResult: far });
  assert.equal(checked.status, 0, checked.stdout);
  for (const pod of ['far', 'near']) assert.equal(cni('DEL', pod).status, 0);
  assert.doesNotMatch(sh('ip -br link'), /(veth|ifb)[0-9a-f]{11}/);
  assert.equal(ask('', '192.0.2.1', 9080), '');
}

async function stop(programs: readonly ChildProcess[]): Promise<void> {
  for (const one of programs) one.kill('SIGTERM');
  await until('both to end', () => programs.every(({ exitCode }) => exitCode !== null));
  assert.deepEqual(
    programs.map(({ exitCode }) => exitCode),
    [0, 0],
  );
}

/** @param during what else to look at while agent and proxy run */
export async function exerciseNode(during: (logs: (name: string) => string) => Promise<void>): Promise<void> {
  try {
    say('begins');
    await prepare();
    const programs = await startTwill();
    await pods();
    await during(log);
    await stop(programs);
    say('both have ended');
  } catch (error) {
    for (const name of ['etcd', 'agent', 'proxy']) process.stdout.write(`--- ${name}\n${log(name)}\n`);
    throw error;
  } finally {
    for (const child of children) child.kill('SIGKILL');
  }
}

export { put, until };
