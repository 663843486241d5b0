// An hour's churn in minutes: 20,000 changes of leases, of Services with their slices, and CNI calls. What agent and proxy
// hold afterwards is what they held before. Not a matter of speed, so it runs only when it is named.
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { runChecked } from '../../src/kernel/process.ts';
import { cniFolder, cniProgram } from '../lab/files.ts';
import { httpAnswer, httpStatus } from '../lab/http.ts';
import type { ApiObject } from '../lab/kube-api.ts';
import { NamespacedKubeApi } from '../lab/kube-api-client.ts';
import { etcdPrefix, type Lab, withLab } from '../lab/lab.ts';
import { Namespace } from '../lab/namespace.ts';
import type { LabNode } from '../lab/node.ts';
import type { LabProcess } from '../lab/process.ts';
import { seeded } from '../lab/random.ts';
import { serviceObject, sliceObject } from '../lab/service-fixtures.ts';
import type { Benchmark, BenchmarkOptions, Measurement } from './benchmark.ts';

const EVENTS = Number(process.env.TWILL_SOAK_EVENTS ?? 20_000);
/** Before the first look: heaps have found their size by then, and code is compiled. */
const WARM_UP = Math.ceil(EVENTS / 5);
const SERVICES = 200;
const PEERS = 200;
const PODS = 8;
/** Heaps grow by steps. */
const TOLERANCE_MIB = 20;

const healthPort = 9099;
const random = seeded(1);

interface Place {
  readonly lab: Lab;
  readonly node: LabNode;
  readonly api: NamespacedKubeApi;
  readonly pods: readonly Namespace[];
}

/** What is held, by what it is. */
type Holdings = ReadonlyMap<string, { readonly value: number; readonly unit: 'MiB' | 'count' }>;

function service(index: number, port = 80): ApiObject {
  const clusterIP = `10.96.${index >> 8}.${index & 255}`;
  const spec = { clusterIP, ports: [{ name: 'http', port }] };
  return serviceObject(`soak/s${index}`, spec) as unknown as ApiObject;
}

function slice(index: number, backends: number): ApiObject {
  const endpoints = Array.from({ length: backends }, (_, backend) => ({
    ip: `10.244.${100 + (index % 100)}.${2 + backend}`,
    node: 'elsewhere',
  }));
  const ports = [{ name: 'http', port: 8080, protocol: 'TCP' }];
  return sliceObject(`soak/s${index}`, ports, endpoints) as unknown as ApiObject;
}

/** All Services as they are at the beginning and at the end. */
function standing(): ApiObject[] {
  return Array.from({ length: SERVICES }, (_, index) => [service(index), slice(index, 3)]).flat();
}

async function churnServices({ lab, node, api }: Place, events: number): Promise<void> {
  for (let done = 0; done < events; done += 10) {
    const put: ApiObject[] = [];
    const remove: ApiObject[] = [];
    for (let change = 0; change < 10; change++) {
      const index = random(SERVICES);
      const kind = random(4);
      if (kind === 0) put.push(service(index, 80 + random(3)));
      else if (kind === 1) remove.push(service(index));
      else put.push(slice(index, 1 + random(5)));
    }
    api.send({ put });
    api.send({ delete: remove });
    await sleep(8);
  }
  api.send({ put: standing() });
  await lab.waitFor('the rules of all Services', async () => {
    const rules = await node.exec('iptables-save', ['-t', 'nat']);
    const chains = rules.match(/^:KUBE-SVC-/gm)?.length ?? 0;
    const backends = rules.match(/-j DNAT --to-destination 10\.244\.1/g)?.length ?? 0;
    return chains === SERVICES && backends === 3 * SERVICES;
  });
}

const leaseKey = (peer: number): string => `${etcdPrefix}/subnets/10.244.${peer}.0-24`;

function leaseValue(peer: number, turn: number): string {
  const hex = (number: number): string => (number & 255).toString(16).padStart(2, '0');
  const mac = `02:00:${hex(turn >> 8)}:${hex(turn)}:00:${hex(peer)}`;
  const ip = `192.0.2.${peer}`;
  return `{"PublicIP":"${ip}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"${mac}"}}`;
}

/** The nodes of the lab begin at 192.0.2.11, and their subnets are of the first hundred. */
const firstPeer = 50;

async function churnLeases({ lab, node }: Place, events: number): Promise<void> {
  const { client } = lab.etcd;
  const own = (await lab.etcd.keys(`${etcdPrefix}/subnets/`)).map(({ key }) => key);
  const peers = Array.from({ length: PEERS }, (_, index) => firstPeer + index).filter(
    (peer) => !own.includes(leaseKey(peer)),
  );
  for (let done = 0; done < events; done += 10)
    await Promise.all(
      Array.from({ length: 10 }, async () => {
        const peer = peers[random(peers.length)]!;
        if (random(3) === 0) await client.delete().key(leaseKey(peer));
        else await client.put(leaseKey(peer)).value(leaseValue(peer, random(65_536)));
      }),
    );
  for (const peer of peers) await client.put(leaseKey(peer)).value(leaseValue(peer, 0));
  await lab.waitFor('the entries of all peers', async () => {
    const fdb = await node.exec('bridge', ['fdb', 'show', 'dev', 'flannel.1']);
    return (fdb.match(/^02:00:00:00:00:/gm)?.length ?? 0) >= peers.length;
  });
  for (const peer of peers) await client.delete().key(leaseKey(peer));
  await lab.waitFor('the entries to go', async () => {
    const fdb = await node.exec('bridge', ['fdb', 'show', 'dev', 'flannel.1']);
    return !/^02:00:/m.test(fdb);
  });
}

async function churnPods({ node, pods }: Place, events: number): Promise<void> {
  let left = events;
  const lane = async (pod: Namespace, index: number): Promise<void> => {
    // Not by the benches' vfork: that waits for whichever child of this process ends.
    const call = async (command: string, containerId: string, hostPort: number): Promise<void> => {
      const env = {
        CNI_COMMAND: command,
        CNI_CONTAINERID: containerId,
        CNI_IFNAME: 'eth0',
        CNI_NETNS: pod.path,
        CNI_PATH: cniFolder,
      };
      // One in fifty has a host port, whose rules are written by a program.
      const portMappings = [{ hostPort, containerPort: 80, protocol: 'tcp' }];
      const netconf = { ...node.netconf, ...(hostPort === 0 ? {} : { runtimeConfig: { portMappings } }) };
      await runChecked(cniProgram, [], { env, input: JSON.stringify(netconf) });
    };
    for (let turn = 0; left > 0; turn++) {
      left -= 2;
      const hostPort = turn % 50 === 0 ? 20_000 + index : 0;
      await call('ADD', `soak-${index}-${turn}`, hostPort);
      await call('DEL', `soak-${index}-${turn}`, hostPort);
    }
  };
  await Promise.all(pods.map(lane));
}

function residentMiB({ pid }: LabProcess): number {
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) / 1024;
}

async function holdings({ node }: Place): Promise<Holdings> {
  const lines = async (program: string, ...args: string[]): Promise<number> =>
    (await node.exec(program, args)).split('\n').filter((line) => line !== '' && !line.startsWith('#'))
      .length;
  const found = new Map<string, { value: number; unit: 'MiB' | 'count' }>();
  for (const [name, process] of [
    ['agent', node.agent!],
    ['proxy', node.proxy!],
  ] as const) {
    found.set(`${name}: memory`, { value: residentMiB(process), unit: 'MiB' });
    found.set(`${name}: descriptors`, {
      value: readdirSync(`/proc/${process.pid}/fd`).length,
      unit: 'count',
    });
  }
  const counts: readonly (readonly [string, Promise<number>])[] = [
    ['iptables rules and chains', lines('iptables-save')],
    ['ip6tables rules and chains', lines('ip6tables-save')],
    ['routes', lines('ip', 'route')],
    ['nexthops', lines('ip', 'nexthop')],
    ['neighbours', lines('ip', 'neigh', 'show', 'dev', 'flannel.1')],
    ['forwarding entries', lines('bridge', 'fdb', 'show', 'dev', 'flannel.1')],
    ['devices', lines('ip', '-br', 'link')],
    ['pod records', Promise.resolve(readdirSync(`${node.stateDir}/pods`).length)],
  ];
  for (const [name, count] of counts) found.set(name, { value: await count, unit: 'count' });
  const metrics = await httpAnswer(node.namespace, 9098, '/metrics');
  const [, used = 'NaN'] = /twill_cni_addresses\{[^}]*state="used"[^}]*\} (\d+)/.exec(metrics) ?? [];
  found.set('pod addresses in use', { value: Number(used), unit: 'count' });
  return found;
}

async function prepare(lab: Lab): Promise<Place> {
  const node = lab.nodes[0]!;
  const api = await NamespacedKubeApi.start(node.namespace);
  api.send({ put: standing() });
  await node.startAgent([
    '--healthz-ip=127.0.0.1',
    `--healthz-port=${healthPort}`,
    '--metrics-bind-address=127.0.0.1:9098',
    '--log-level=warn',
  ]);
  await node.startProxy(['--manifests=', `--master=${api.url}`, '--log-level=warn']);
  const pods: Namespace[] = [];
  for (let index = 0; index < PODS; index++)
    pods.push(await Namespace.make(`${node.name}-soak${index}`, node.guard));
  return { lab, node, api, pods };
}

async function churn(place: Place, events: number, progress: BenchmarkOptions['progress']): Promise<void> {
  const started = performance.now();
  // Side by side, as on a node.
  await Promise.all([churnLeases(place, events), churnServices(place, events), churnPods(place, events)]);
  const seconds = Math.round((performance.now() - started) / 1000);
  progress(`  ${events} events of each source in ${seconds} s`);
  const { lab, node } = place;
  await lab.waitFor('agent and proxy to be ready', async () => {
    const statuses = [healthPort, 10_256].map((port) => httpStatus(node.namespace, port, '/readyz'));
    return (await Promise.all(statuses)).every((status) => status === 200);
  });
  await sleep(5000); // what is freed later is freed by then
}

async function soak({ progress }: BenchmarkOptions): Promise<Measurement[]> {
  return await withLab({ nodes: 1 }, async (lab) => {
    const place = await prepare(lab);
    await churn(place, WARM_UP, progress);
    const before = await holdings(place);
    await churn(place, EVENTS, progress);
    const after = await holdings(place);
    return [...after].map(([what, { value, unit }]) => {
      const first = before.get(what)!.value;
      return {
        work: `${what}: ${unit === 'MiB' ? first.toFixed(1) : first} before, and after ${EVENTS} events of each source`,
        subject: 'twill',
        value,
        unit,
        atMost: unit === 'MiB' ? first + TOLERANCE_MIB : first,
        ...(unit === 'MiB' ? {} : { atLeast: first }),
      };
    });
  });
}

export const benchmark: Benchmark = { name: 'soak', onlyNamed: true, run: soak };
