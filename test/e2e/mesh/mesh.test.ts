import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { MeshPartner } from '../../../src/mesh/plan/state.ts';
import { twillProgram } from '../../lab/files.ts';
import { defaultNetworkConfig, Lab, podSubnets, withLab } from '../../lab/lab.ts';
import type { LabNode } from '../../lab/node.ts';
import { healthFlags, metrics, readyz } from '../agent/readiness.ts';

const flags = ['--mesh-probe-port=8473', '--mesh-probe-interval=500ms', ...healthFlags];
const networkConfig = { ...defaultNetworkConfig, EnableIPv6: true, IPv6Network: 'fd00:244::/48' };

interface Status {
  readonly verdict: string;
  readonly problems: readonly { readonly severity: string; readonly area: string; readonly what: string }[];
  readonly mesh: { readonly conclusions: Record<string, number>; readonly troubled: readonly MeshPartner[] };
}

async function status(node: LabNode): Promise<Status> {
  const args = [`--socket=${node.cniSocket}`, `--proxy-socket=${node.proxySocket}`, '-o', 'json'];
  return JSON.parse((await node.namespace.run(twillProgram, ['status', ...args])).stdout);
}

async function table(node: LabNode, command: 'status' | 'routes'): Promise<string> {
  const sockets = [
    `--socket=${node.cniSocket}`,
    ...(command === 'status' ? [`--proxy-socket=${node.proxySocket}`] : []),
  ];
  return (await node.namespace.run(twillProgram, [command, ...sockets])).stdout.replace(/\s+/g, ' ');
}

/** Waits until the agent has come to these conclusions about the others, each family for itself. */
async function concluded(lab: Lab, node: LabNode, wanted: Record<string, number>): Promise<Status> {
  let last: Status | undefined;
  return await lab.waitFor(
    `${node.name} to conclude ${JSON.stringify(wanted)}`,
    async () => {
      last = await status(node);
      const found = Object.entries(last.mesh.conclusions).sort();
      return JSON.stringify(found) === JSON.stringify(Object.entries(wanted).sort()) && last;
    },
    { explain: () => `${JSON.stringify(last?.mesh)}\n${lab.tails()}` },
  );
}

const sentences = ({ problems }: Status): string[] =>
  problems.filter(({ area }) => area === 'mesh').map(({ severity, what }) => `${severity}: ${what}`);

/** A table of nftables for what is done to packets on the node; `undo` takes it away. */
async function meddle(node: LabNode, rules: readonly string[]): Promise<() => Promise<void>> {
  const document = `add table inet lab\n${rules.map((rule) => `add ${rule}\n`).join('')}`;
  await node.namespace.exec('nft', ['-f', '-'], { input: document });
  return async () => {
    await node.namespace.exec('nft', ['delete', 'table', 'inet', 'lab']);
  };
}
const input = 'chain inet lab in { type filter hook input priority -300; }';
const output = 'chain inet lab out { type filter hook output priority -300; }';

describe('nodes that measure how they reach each other', () => {
  let lab: Lab;
  let one: LabNode;
  let two: LabNode;
  let three: LabNode;

  before(async () => {
    lab = await Lab.start({ nodes: 3, networkConfig });
    [one, two, three] = lab.nodes as [LabNode, LabNode, LabNode];
    await Promise.all(lab.nodes.map((node) => node.startAgent(flags)));
  });
  after(() => lab?.stop());

  it('all is well in both families, with times, and nothing is said', async () => {
    const { mesh, problems } = await concluded(lab, one, { reached: 4 });
    assert.deepEqual(mesh.troubled, []);
    assert.ok(!problems.some(({ area }) => area === 'mesh'));
    const text = await metrics(one);
    assert.match(text, /^twill_mesh_nodes\{conclusion="reached"\} 4$/m);
    assert.match(text, /^twill_mesh_round_trip_seconds_count\{path="overlay"\} [1-9]/m);
    assert.match(
      await table(one, 'status'),
      /mesh 2 nodes by IPv4 and IPv6: 4 reached; median [\d.]+ ms by the overlay, [\d.]+ ms by the underlay/,
    );
  });

  it('the VXLAN port is closed on one node: all say so, the others of it, it of all; and no more once it is open', async () => {
    const open = await meddle(three, [input, 'rule inet lab in udp dport 8472 drop']);
    const there = await concluded(lab, one, { reached: 2, overlay: 2 });
    const here = await concluded(lab, three, { overlay: 4 });
    assert.equal(there.verdict, 'degraded');
    const named = `${three.ipv4}) is reached by the underlay but not by the overlay: packets to`;
    await lab.waitFor('the direction to be known', async () =>
      sentences(await status(one)).some((text) => text.includes(named) && text.endsWith('do not get there')),
    );
    assert.ok(
      sentences(here).some((text) => text.includes('no node is reached by the overlay, and 2 are by')),
    );
    assert.match(await table(one, 'routes'), /is reached by the underlay but not by the overlay/);
    // It is the others' traffic that does not flow: this node takes pods.
    const ready = await readyz(one);
    assert.equal(ready.status, 200);
    assert.match(ready.text, /^\[!\] mesh: .*by the underlay but not by the overlay/m);
    await open();
    const well = await concluded(lab, one, { reached: 4 });
    assert.deepEqual(sentences(well), []);
    await concluded(lab, three, { reached: 4 });
    assert.match(lab.tails(), /a node is reached by the overlay again/);
  });

  it('one direction alone is told from the other', async () => {
    const open = await meddle(two, [output, `rule inet lab out ip daddr ${one.ipv4} udp dport 8472 drop`]);
    await lab.waitFor('the way back to be named', async () =>
      sentences(await status(one)).some((text) =>
        /packets get there, the answers from 10\.244\.\d+\.0 do not come back/.test(text),
      ),
    );
    await lab.waitFor('the way there to be named', async () =>
      sentences(await status(two)).some((text) => text.includes('do not get there')),
    );
    await open();
    await concluded(lab, one, { reached: 4 });
    await concluded(lab, two, { reached: 4 });
  });

  it('a path that carries less than the interfaces take is named by all sides, until it carries all', async () => {
    await three.setCableMtu(1400);
    const there = await concluded(lab, one, { reached: 2, small: 2 });
    assert.equal(there.verdict, 'degraded');
    const named = `${three.ipv4}) is reached by small packets but not by full-size ones: `;
    await lab.waitFor('size and direction to be known', async () =>
      sentences(await status(one)).some(
        (text) =>
          text.includes(named) && /: those of 14\d\d bytes .*do not (get there|come back);/.test(text),
      ),
    );
    assert.match(await table(one, 'status'), /2 reached, 2 by small packets only/);
    assert.match(await table(one, 'routes'), /is reached by small packets but not by full-size ones/);
    const ready = await readyz(one);
    assert.equal(ready.status, 200);
    assert.match(ready.text, /^\[!\] mesh: .*by small packets but not by full-size ones/m);
    assert.match(await metrics(one), /^twill_mesh_nodes\{conclusion="small"\} 2$/m);
    assert.ok(
      sentences(await concluded(lab, three, { small: 4 })).some((text) =>
        text.startsWith('degraded: no node is reached by full-size packets, and 2 are by small ones'),
      ),
    );
    // A node that knows: pods send what both sides take.
    await three.setMtu(1400);
    assert.deepEqual(sentences(await concluded(lab, one, { reached: 4 })), []);
    await three.setMtu(1500);
    await concluded(lab, three, { reached: 4 });
  });

  it('a closed port of its own is no fault: by the overlay the node is reached', async () => {
    const open = await meddle(two, [input, `rule inet lab in iif eth0 udp dport 8473 drop`]);
    const before = await concluded(lab, one, { reached: 4 });
    assert.deepEqual(sentences(before), []);
    await lab.waitFor('questions to be lost', async () => {
      const { nodes } = JSON.parse(
        (await one.namespace.run(twillProgram, ['routes', `--socket=${one.cniSocket}`, '-o', 'json'])).stdout,
      ) as { nodes: { mesh: MeshPartner }[] };
      return nodes.some(({ mesh }) => mesh.underlay.lost > 3 && mesh.overlay.lost < mesh.underlay.lost);
    });
    assert.deepEqual(sentences(await concluded(lab, one, { reached: 4 })), []);
    await open();
  });

  it('a stopped agent leaves a node that is reached; one that hangs, and a cut cable, do not', async () => {
    await two.agent!.stop();
    assert.deepEqual(sentences(await concluded(lab, one, { reached: 2, refused: 2 })), []);
    await two.startAgent(flags);
    await concluded(lab, one, { reached: 4 });
    const pid = two.agent!.pid!;
    process.kill(pid, 'SIGSTOP');
    const hung = await concluded(lab, one, { reached: 2, lost: 2 });
    assert.match(
      sentences(hung)[0]!,
      /^note: .*is reached neither by the underlay nor by the overlay any more/,
    );
    process.kill(pid, 'SIGCONT');
    await concluded(lab, one, { reached: 4 });
    // What it has not heard while it was stopped it does not hold against the others.
    assert.deepEqual(sentences(await concluded(lab, two, { reached: 4 })), []);
    await one.isolate(true);
    await two.isolate(true);
    await three.isolate(true);
    const cut = await concluded(lab, one, { lost: 4 });
    assert.match(
      sentences(cut)[0]!,
      /^degraded: 2 nodes that were reached are not any more.*this node is cut off/,
    );
    for (const node of lab.nodes) await node.isolate(false);
    await concluded(lab, one, { reached: 4 });
  });

  it('a node that is gone is forgotten, and one without the flag is reached all the same', async () => {
    await three.agent!.stop();
    await three.startAgent([...healthFlags, '--mesh-probe-port=0']);
    await concluded(lab, one, { reached: 2, refused: 2 });
    await three.agent!.stop();
    await lab.etcd.client.delete().prefix('/coreos.com/network/subnets/').exec();
    await lab.waitFor(
      'the node to be forgotten',
      async () => (await status(one)).mesh.conclusions.refused === undefined,
    );
  });
});

it('without VXLAN the bridges are asked, as soon as both nodes have one', async () => {
  const direct = { ...podSubnets, Backend: { Type: 'host-gw' } };
  await withLab({ nodes: 2, networkConfig: direct }, async (lab) => {
    const [one, two] = lab.nodes as [LabNode, LabNode];
    await Promise.all(lab.nodes.map((node) => node.startAgent(flags)));
    assert.deepEqual(sentences(await concluded(lab, one, { unserved: 1 })), []);
    await Promise.all([one.addPod('near'), two.addPod('far')]);
    await concluded(lab, one, { reached: 1 });
    const open = await meddle(two, [input, 'rule inet lab in iif eth0 ip daddr 10.244.0.0/16 drop']);
    const broken = await concluded(lab, one, { overlay: 1 });
    assert.match(sentences(broken)[0]!, /is reached by the underlay but not by the overlay/);
    await open();
    await concluded(lab, one, { reached: 1 });
  });
});
