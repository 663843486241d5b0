import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { controlGroupPrefix } from '../../lab/cleanup.ts';
import { Cri, type PortMapping, type Sandbox } from '../../lab/cri.ts';
import { type Lab, withLab } from '../../lab/lab.ts';
import type { LabNode } from '../../lab/node.ts';
import type { Place } from '../../lab/place.ts';

/** Runs `work` with one node whose containerd has the CRI plugin on, and an agent among its mounts. */
async function withCri(work: (lab: Lab, node: LabNode, cri: Cri) => Promise<void>): Promise<void> {
  await withLab({ nodes: 1 }, async (lab) => {
    const node = lab.nodes[0]!;
    const cri = await Cri.start(node);
    try {
      node.prefix = cri.containerd.amongItsMounts;
      await node.startAgent();
      await work(lab, node, cri);
    } finally {
      cri.close();
    }
  });
}

function filesOf(directory: string, { id }: Sandbox): string[] {
  return readdirSync(directory, { recursive: true, encoding: 'utf8' }).filter((file) => file.includes(id));
}

/** What Twill keeps on a node for a sandbox with host ports and limits. */
async function keptFor(node: LabNode, sandbox: Sandbox): Promise<string[]> {
  const links = (await node.exec('ip', ['-oneline', 'link'])).split('\n');
  const rules = (await node.exec('iptables-save', [])).split('\n');
  return [
    ...links.filter((line) => /veth|ifb/.test(line)),
    ...rules.filter((line) => /-j DNAT|--dports? (8080|9000)/.test(line)),
    ...filesOf(node.stateDir, sandbox),
  ];
}

/** The control groups of a node's sandboxes. */
function controlGroups(node: LabNode, { name, id }: Sandbox): string[] {
  const group = join(`${controlGroupPrefix(node.guard.id)}${name}`, id);
  const root = '/sys/fs/cgroup';
  return [root, ...readdirSync(root).map((folder) => join(root, folder))]
    .map((folder) => join(folder, group))
    .filter(existsSync);
}

/** Stops and removes the last sandbox of a node: everything of it goes, although its namespace stays. */
async function remove(lab: Lab, node: LabNode, cri: Cri, sandbox: Sandbox): Promise<void> {
  assert.notDeepEqual(await keptFor(node, sandbox), []);
  assert.notDeepEqual(controlGroups(node, sandbox), []);
  await cri.stopSandbox(sandbox);
  assert.deepEqual(await keptFor(node, sandbox), []);
  assert.doesNotMatch(await sandbox.exec('ip', ['-oneline', 'link']), /eth0/);
  assert.equal((await cri.status(sandbox.id)).status.state, 'SANDBOX_NOTREADY');
  await cri.stopSandbox(sandbox);
  await cri.removeSandbox(sandbox);
  const left = (): string[] => [...filesOf(node.dir, sandbox), ...controlGroups(node, sandbox)];
  const explain = (): string => left().join('\n');
  await lab.waitFor('nothing to be left of the sandbox', () => left().length === 0, { explain });
  const { status, stdout } = await cri.containerd.ctr('--namespace=k8s.io', 'containers', 'list', '--quiet');
  assert.deepEqual([status, stdout], [0, '']);
}

/** Two host addresses may have the same port for different ports of a pod. */
function mappings(node: LabNode): PortMapping[] {
  const onBoth = (protocol: PortMapping['protocol'], host_port: number, first: number): PortMapping[] => [
    { protocol, host_port, container_port: first, host_ip: '127.0.0.1' },
    { protocol, host_port, container_port: first + 1, host_ip: node.ipv4 },
  ];
  return [...onBoth('TCP', 8080, 80), ...onBoth('UDP', 8080, 80), ...onBoth('SCTP', 9000, 3868)];
}

/** Sends to a port until the listener, which prints sources and ports of what arrives, has heard of `expected`. */
async function hears(lab: Lab, from: Place, address: string, heard: () => string, expected: RegExp) {
  const program = join(import.meta.dirname, '../../lab/sctp-process.js');
  const sender = from.namespace.spawn(process.execPath, [program, 'send', address, '9000'], {
    stdio: 'inherit',
  });
  await lab.waitFor(`SCTP from ${from.name} to ${address}`, () => expected.test(heard()), { explain: heard });
  sender.kill();
}

test('CRI: host ports of each protocol lead into the sandbox, by the address that they are on', async () => {
  await withCri(async (lab, node, cri) => {
    const sandbox = await cri.runSandbox('web', { port_mappings: mappings(node) });
    await sandbox.probe.listen(80, 'loopback');
    await sandbox.probe.listen(81, 'node');
    const { ipv4: address } = node;
    for (const protocol of ['tcp', 'udp'] as const) {
      const ask = async (from: Place, to: string): Promise<string> =>
        (await from.probe.ask({ protocol, address: to, port: 8080 })).server;
      assert.equal(await ask(node, '127.0.0.1'), 'loopback', protocol);
      assert.equal(await ask(node, address), 'node', protocol);
      assert.equal(await ask(lab.client, address), 'node', protocol);
      assert.equal(await ask(sandbox, address), 'node', `${protocol}, the pod to itself`);
    }
    const program = join(import.meta.dirname, '../../lab/sctp-process.js');
    const listener = sandbox.namespace.spawn(process.execPath, [program, 'listen'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let output = '';
    listener.stdout!.on('data', (chunk: Buffer) => {
      output += chunk.toString();
    });
    const heard = (): string => output;
    await lab.waitFor('the listener', () => output.includes('ready'));
    await hears(lab, lab.client, address, heard, new RegExp(`^${lab.client.ipv4} 3869$`, 'm'));
    await hears(lab, node, '127.0.0.1', heard, / 3868$/m);
    listener.kill();
    await remove(lab, node, cri, sandbox);
    const gone = lab.client.probe.ask({ protocol: 'tcp', address, port: 8080 });
    await assert.rejects(gone, /ECONNREFUSED/);
  });
});

test('CRI: the bandwidth that annotations ask for is what goes through, in each direction', async () => {
  await withCri(async (lab, node, cri) => {
    await lab.client.probe.sink(5001);
    const start = async (name: string, annotations: Record<string, string>): Promise<Sandbox> => {
      const sandbox = await cri.runSandbox(name, { annotations });
      await sandbox.probe.sink(5001);
      return sandbox;
    };
    const free = await start('free', {});
    const limited = await start('limited', {
      'kubernetes.io/ingress-bandwidth': '40M',
      'kubernetes.io/egress-bandwidth': '20M',
    });
    const received = (sandbox: Sandbox): Promise<number> => node.probe.flood(sandbox.ipv4, 5001, 1500);
    const sent = (sandbox: Sandbox): Promise<number> => sandbox.probe.flood(lab.client.ipv4, 5001, 1500);
    for (const [what, megabits, measure] of [
      ['ingress', 40, received],
      ['egress', 20, sent],
    ] as const) {
      const rates: number[] = [];
      // A busy machine can make any flow slow, but none faster than its limit.
      await lab.waitFor(`${what} to fill its limit`, async () => {
        const rate = await measure(limited);
        rates.push(rate);
        return rate > megabits / 2;
      });
      assert.ok(Math.max(...rates) < megabits * 1.3, `${what}: ${rates} of ${megabits} Mbit/s`);
      const wanted = megabits * 3;
      await lab.waitFor(`${what} without a limit`, async () => (await measure(free)) > wanted);
    }
    await cri.stopSandbox(free);
    await cri.removeSandbox(free);
    await remove(lab, node, cri, limited);
  });
});
