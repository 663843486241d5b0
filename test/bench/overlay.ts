// The overlay at scale: 5,000 leases in etcd until the kernel is complete, one more lease, 1,000 random changes.
import { spawnSync } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import type { Message } from '../../src/kernel/netlink/codec.ts';
import { RTM_NEWROUTE, RTNLGRP_IPV4_ROUTE } from '../../src/kernel/netlink/constants.ts';
import { EventSocket } from '../../src/kernel/netlink/events.ts';
import { listLinks } from '../../src/kernel/netlink/links.ts';
import { fdbOf, neighboursOf } from '../../src/kernel/netlink/neighbours.ts';
import { parseRoute, routesOf } from '../../src/kernel/netlink/routes.ts';
import { RtSocket } from '../../src/kernel/netlink/socket.ts';
import { inNetns } from '../../src/kernel/netns.ts';
import { ipv4 } from '../../src/model/address.ts';
import { Lab } from '../lab/lab.ts';
import { leaseKey, leasesNetwork, leasesPrefix, leaseValue, macOf, putLeases } from '../lab/many-leases.ts';
import type { LabNode } from '../lab/node.ts';
import { LabProcess } from '../lab/process.ts';
import type { Benchmark, Measurement } from './benchmark.ts';

interface OverlayBenchOptions {
  readonly leases: number;
  /** A flanneld executable to do the same work with. */
  readonly peerFlanneld: string | undefined;
}

/** Milliseconds and MiB. */
interface OverlayFigures {
  readonly program: string;
  readonly completeMs: number;
  readonly oneLeaseMs: number;
  readonly peakMiB: number;
  /** Entries that were wrong after 1,000 random changes in 10 s; undefined where it was not measured. */
  readonly wrongAfterChurn: number | undefined;
}

/** Starts that are measured; their median counts. */
const STARTS = 5;

/** Counts routes as the kernel reports them, so that the time of the last one is known exactly. */
class RouteClock {
  private readonly socket: EventSocket;
  private waiting: { count: number; resolve: (at: number) => void } | undefined;
  private readonly seen = new Set<string>();

  constructor(node: LabNode) {
    const onEvent = (message: Message): void => {
      const route = message.type === RTM_NEWROUTE ? parseRoute(message) : undefined;
      if (route?.gateway === undefined || route.destination.length !== 24) return;
      this.seen.add(route.destination.text);
      if (this.waiting !== undefined && this.seen.size >= this.waiting.count)
        this.waiting.resolve(performance.now());
    };
    const listener = { groups: [RTNLGRP_IPV4_ROUTE], onEvent, onLost: () => {} };
    this.socket = inNetns(node.namespace.path, () => new EventSocket(listener));
  }

  reached(count: number): Promise<number> {
    return new Promise((resolve) => {
      this.waiting = { count, resolve };
    });
  }

  close(): void {
    this.socket.close();
  }
}

async function kernelCounts(
  node: LabNode,
): Promise<{ routes: Set<string>; neighbours: Set<string>; fdb: Set<string> }> {
  const socket = inNetns(node.namespace.path, () => new RtSocket());
  try {
    const device = (await listLinks(socket)).find(({ name }) => name === 'flannel.1')?.index ?? -1;
    const routes = await socket.list(routesOf(ipv4));
    const neighbours = device < 0 ? [] : await socket.list(neighboursOf(ipv4, device));
    const fdb = device < 0 ? [] : await socket.list(fdbOf(device));
    return {
      routes: new Set(
        routes.filter((route) => route.device === device).map(({ destination }) => destination.text),
      ),
      neighbours: new Set(
        neighbours.filter(({ mac }) => mac !== undefined).map(({ address, mac }) => `${address.text} ${mac}`),
      ),
      fdb: new Set(
        fdb
          .filter(({ destination }) => destination !== undefined)
          .map(({ mac, destination }) => `${mac} ${destination?.text}`),
      ),
    };
  } finally {
    socket.close();
  }
}

function peakMiB(pid: number): number {
  return Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024;
}

/** Polls with a dump: events of thousands of routes overflow a listener that shares two processors with the agent. */
async function untilComplete(node: LabNode, count: number): Promise<number> {
  const socket = inNetns(node.namespace.path, () => new RtSocket());
  try {
    for (;;) {
      const device = (await listLinks(socket)).find(({ name }) => name === 'flannel.1')?.index;
      if (device !== undefined) {
        // The routes come last; counting a dump of everything costs 50 ms, so first a cheap look, whose time counts: the
        // trie has a few addresses besides the routes, which is less than a batch of them.
        const lines = readFileSync(`/proc/${node.agent?.pid ?? 'self'}/net/fib_triestat`, 'utf8');
        const leaves = Number(/Leaves:\s+(\d+)/.exec(lines)?.[1]);
        const at = performance.now();
        if (leaves >= count) {
          const { routes, neighbours, fdb } = await kernelCounts(node);
          if (Math.min(routes.size, neighbours.size, fdb.size) >= count) return at;
        }
      }
      await delay(5);
    }
  } finally {
    socket.close();
  }
}

async function oneLease(lab: Lab, node: LabNode, index: number): Promise<number> {
  const clock = new RouteClock(node);
  const reached = clock.reached(1);
  const start = performance.now();
  await lab.etcd.put(leaseKey(index), leaseValue(index));
  const end = await reached;
  clock.close();
  return end - start;
}

async function churn(lab: Lab, node: LabNode, leases: number): Promise<number> {
  const present = new Set<number>(Array.from({ length: leases }, (_, index) => index));
  const end = performance.now() + 10_000;
  for (let change = 0; change < 1000; change++) {
    const index = randomInt(leases);
    if (present.delete(index)) await lab.etcd.delete(leaseKey(index));
    else {
      present.add(index);
      await lab.etcd.put(leaseKey(index), leaseValue(index));
    }
    await delay(Math.max(0, (end - performance.now()) / (1000 - change) - 0.3));
  }
  await delay(500);
  const { routes, neighbours, fdb } = await kernelCounts(node);
  let wrong = 0;
  for (let index = 0; index < leases; index++) {
    const subnet = leaseKey(index).slice(leasesPrefix.length).replace('-24', '');
    const ip = /"PublicIP":"([^"]+)/.exec(leaseValue(index))![1];
    for (const has of [
      routes.has(`${subnet}/24`),
      neighbours.has(`${subnet} ${macOf(index)}`),
      fdb.has(`${macOf(index)} ${ip}`),
    ])
      if (has !== present.has(index)) wrong++;
  }
  return wrong;
}

/** Ends the program and takes away what it left, so that the next start is the first again. */
async function forget(lab: Lab, node: LabNode): Promise<void> {
  await node.agent!.kill();
  await node.namespace.ip('link delete flannel.1');
  for (const { key } of await lab.etcd.keys(leasesPrefix))
    if (key.startsWith(`${leasesPrefix}10.2`) && key >= `${leasesPrefix}10.200.`) await lab.etcd.delete(key);
}

const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1]!;

/** Milliseconds that a Node program takes that does nothing: machines in the cloud have slow hours. */
function emptyProgramMs(): number {
  return median(
    Array.from({ length: 7 }, () => {
      const start = performance.now();
      spawnSync(process.execPath, ['-e', '0']);
      return performance.now() - start;
    }),
  );
}

/** One program's figures on a fresh cluster. */
async function measure(options: OverlayBenchOptions, program: 'twill' | 'flanneld'): Promise<OverlayFigures> {
  const { leases } = options;
  const lab = await Lab.start({ nodes: 1, underlay: 'ipv4', networkConfig: leasesNetwork });
  try {
    const node = lab.nodes[0]!;
    await putLeases(lab, leases);
    if (program === 'flanneld') {
      node.agent = new LabProcess({
        name: 'flanneld',
        namespace: node.namespace,
        program: options.peerFlanneld!,
        args: [`--etcd-endpoints=${lab.etcd.endpoint}`, `--subnet-file=${node.subnetFile}`, '--ip-masq'],
        cwd: node.dir,
        logFile: `${node.dir}/flanneld.log`,
      });
    }
    const starts: number[] = [];
    for (let run = 1; ; run++) {
      const start = performance.now();
      if (program === 'twill') await node.startAgent([], false);
      else await node.agent!.start();
      starts.push((await untilComplete(node, leases)) - start);
      await delay(1500);
      if (run === STARTS) break;
      await forget(lab, node);
    }
    const completeMs = median(starts);
    const oneLeaseMs = Math.max(
      ...[await oneLease(lab, node, leases), await oneLease(lab, node, leases + 1)],
    );
    const wrongAfterChurn = program === 'twill' ? await churn(lab, node, leases) : undefined;
    const figures = { program, completeMs, oneLeaseMs, wrongAfterChurn, peakMiB: peakMiB(node.agent!.pid) };
    return figures;
  } finally {
    await lab.stop();
  }
}

function measurements({ program, ...figures }: OverlayFigures, leases: number): Measurement[] {
  const twill = program === 'twill';
  const list: Measurement[] = [
    {
      work: `${leases} leases, process start until all routes stand, median of ${STARTS}`,
      subject: program,
      value: figures.completeMs,
      unit: 'ms',
      ...(twill ? { atMost: 800 } : {}),
    },
    {
      work: `one lease added to ${leases}, until its route stands`,
      subject: program,
      value: figures.oneLeaseMs,
      unit: 'ms',
      ...(twill ? { atMost: 50 } : {}),
    },
    {
      work: `peak memory with ${leases} leases`,
      subject: program,
      value: figures.peakMiB,
      unit: 'MiB',
      ...(twill ? { atMost: 90 } : {}),
    },
  ];
  if (figures.wrongAfterChurn !== undefined)
    list.push({
      work: '1000 leases added and removed in 10 s, entries wrong after it',
      subject: program,
      value: figures.wrongAfterChurn,
      unit: 'count',
      atMost: 0,
    });
  return list;
}

export const benchmark: Benchmark = {
  name: 'overlay',
  async run({ peerFlanneld, progress }) {
    const leases = 5000;
    const result: Measurement[] = [
      { work: 'a Node program that does nothing', subject: 'twill', value: emptyProgramMs(), unit: 'ms' },
    ];
    for (const program of peerFlanneld === undefined
      ? (['twill'] as const)
      : (['twill', 'flanneld'] as const)) {
      progress(`  ${leases} leases, ${program}`);
      result.push(...measurements(await measure({ leases, peerFlanneld }, program), leases));
    }
    return result;
  },
};
