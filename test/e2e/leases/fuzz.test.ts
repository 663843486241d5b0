import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { NamespacedKubeApi } from '../../lab/kube-api-client.ts';
import { type Lab, withLab } from '../../lab/lab.ts';
import { fuzzMac, fuzzName, fuzzValue, injections } from '../../lab/lease-fuzz.ts';
import type { LabNode } from '../../lab/node.ts';
import { seeded } from '../../lab/random.ts';
import { subnetKeys } from '../../lab/two-nodes.ts';
import { healthFlags, metrics, readyz } from '../agent/readiness.ts';
import { flannelLease, kernelState } from '../overlay/state.ts';
import { flannel, kubeNode } from './kube-nodes.ts';

/** One subnet, so that the same seed does the same to it each time; those after it are left to the tests. */
const networkConfig = {
  Network: '10.244.0.0/16',
  SubnetMin: '10.244.240.0',
  SubnetMax: '10.244.240.0',
  Backend: { Type: 'vxlan' },
};
const ROUNDS = 3;
const PER_ROUND = 250;

/** Resident memory of the agent in MiB. */
function memory(node: LabNode): number {
  const status = readFileSync(`/proc/${node.agent!.pid}/status`, 'utf8');
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1024;
}

/** Every line is one of the agent's own, whatever was in the leases. */
function assertNothingInjected(node: LabNode): void {
  for (const line of node.agent!.log().split('\n').filter(Boolean)) {
    assert.match(line, /^\d\d:\d\d:\d\d\.\d{3} (INFO |WARN |ERROR) (?!forged)/);
    assert.doesNotMatch(line, /[\p{Cc}\u2028\u2029\u202e]/u);
    assert.ok(line.length < 10_000);
  }
}

async function assertAnswers(node: LabNode): Promise<void> {
  const { status, text } = await readyz(node);
  assert.equal(status, 200, text);
  const lines = text
    .slice(text.indexOf(' ') + 1)
    .trimEnd()
    .split('\n');
  assert.ok(lines.length < 100, `${lines.length} lines`);
  for (const line of lines) assert.match(line, /^\[[+!]\] /);
  assert.match(await metrics(node), /^twill_agent_lease_held 1$/m);
}

/** Routes to nodes lead into the pod network, each once, and none to this node's own subnet. */
async function assertRoutes(node: LabNode): Promise<void> {
  const { routes, fdb } = await kernelState(node.namespace);
  for (const route of routes) assert.match(route, /^10\.244\.\d+\.\d+/);
  const macs = fdb.map((line) => line.split(' ')[0]);
  assert.equal(new Set(macs).size, macs.length);
}

async function assertBack(lab: Lab, node: LabNode, first: number): Promise<void> {
  await lab.waitFor(`memory to be about ${first} MiB again`, () => memory(node) < first + 25, {
    explain: () => `${memory(node)} MiB`,
  });
}

describe('random leases', () => {
  it('in etcd: the agent answers afterwards, nothing is injected, memory is back', async () => {
    await withLab({ nodes: 1, underlay: 'ipv4', networkConfig }, async (lab) => {
      const node = lab.nodes[0]!;
      await node.startAgent(healthFlags);
      const [own] = await lab.etcd.keys(subnetKeys);
      const random = seeded(20_261);
      let first = 0;
      for (let round = 0; round < ROUNDS; round++) {
        const names = new Set<string>();
        for (let count = 0; count < PER_ROUND; count++) {
          const name = fuzzName(random);
          if (subnetKeys + name === own!.key) continue;
          names.add(name);
          const big = random(50) === 0 ? 'z'.repeat(1_000_000) : '';
          await lab.etcd.put(subnetKeys + name, fuzzValue(random) + big);
        }
        // What stands at a start is read another way than what changes.
        if (round === 1) {
          await node.agent!.kill();
          await node.startAgent(healthFlags);
        }
        const { key, value } = flannelLease(250, `02:00:00:00:fa:0${round}`, `198.51.100.${round + 1}`);
        await lab.etcd.put(key, value);
        const wanted = new RegExp(`02:00:00:00:fa:0${round} dst 198.51.100.${round + 1}`);
        await lab.waitFor('a good lease to arrive, or to be refused by name', async () => {
          const { fdb } = await kernelState(node.namespace);
          return (
            wanted.test(fdb.join('\n')) ||
            /lease=10\.244\.250\.0-24 reason=its subnet/.test(node.agent!.log())
          );
        });
        await assertAnswers(node);
        await assertRoutes(node);
        for (const name of [...names, '10.244.250.0-24']) await lab.etcd.delete(subnetKeys + name);
        await lab.waitFor(
          'all to be gone',
          async () => (await kernelState(node.namespace)).routes.length === 0,
        );
        await lab.waitFor('none to be counted', async () =>
          /^twill_agent_leases_malformed 0$/m.test(await metrics(node)),
        );
        // The first round brings the code into memory.
        if (round === 1) first = memory(node);
      }
      assertNothingInjected(node);
      await assertBack(lab, node, first);
    });
  });

  it('as Kubernetes Nodes: the agent answers afterwards, nothing is injected, memory is back', async () => {
    await withLab({ nodes: 1, underlay: 'ipv4', networkConfig: null }, async (lab) => {
      const node = lab.nodes[0]!;
      const api = await NamespacedKubeApi.start(lab.underlay, '192.0.2.1');
      const config = join(lab.dir, 'net-conf.json');
      writeFileSync(config, '{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan"}}');
      api.send({ put: [kubeNode('node1', 1, node.ipv4)] });
      await node.startAgent([
        ...['--kube-subnet-mgr', `--kube-api-url=${api.url}`, `--net-config-path=${config}`],
        ...healthFlags,
      ]);
      const random = seeded(20_262);
      const text = (): string =>
        random(3) === 0 ? injections[random(injections.length)]! : fuzzValue(random);
      let first = 0;
      for (let round = 0; round < ROUNDS; round++) {
        const nodes = Array.from({ length: PER_ROUND }, (_, index) => {
          const usually = (right: string): string => (random(4) === 0 ? text() : right);
          const third = random(256);
          return kubeNode(`fuzz-${index}`, third, '192.0.2.77', {
            [`${flannel}/backend-data`]: usually(`{"VNI":1,"VtepMAC":"${fuzzMac(random)}"}`),
            [`${flannel}/backend-type`]: usually('vxlan'),
            [`${flannel}/kube-subnet-manager`]: 'true',
            [`${flannel}/public-ip`]: usually(`192.0.2.${random(256)}`),
          });
        });
        api.send({ put: nodes });
        api.send({
          put: [kubeNode(`last-${round}`, 1, '192.0.2.78', { [`${flannel}/kube-subnet-manager`]: 'true' })],
        });
        await lab.waitFor(
          'the last of them to arrive',
          async () =>
            new RegExp(`node=last-${round}`).test(node.agent!.log()) ||
            (await readyz(node)).text.includes('more of this kind'),
        );
        await assertAnswers(node);
        await assertRoutes(node);
        api.send({ delete: [...nodes, kubeNode(`last-${round}`, 1, '192.0.2.78')] });
        await lab.waitFor(
          'all to be gone',
          async () => (await kernelState(node.namespace)).routes.length === 0,
        );
        await lab.waitFor('none to be counted', async () =>
          /^twill_agent_leases_malformed 0$/m.test(await metrics(node)),
        );
        if (round === 0) first = memory(node);
      }
      assertNothingInjected(node);
      await assertBack(lab, node, first);
    });
  });
});

it('200 values of 1.4 MB in etcd: the agent starts, follows changes, and keeps none of them', async () => {
  await withLab({ nodes: 1, underlay: 'ipv4', networkConfig }, async (lab) => {
    const node = lab.nodes[0]!;
    const big = `{"PublicIP":"${'7'.repeat(1_400_000)}"}`;
    for (let index = 0; index < 200; index++) await lab.etcd.put(`${subnetKeys}10.244.${index}.0-24`, big);
    await node.startAgent(healthFlags);
    // What it has read and not kept may not have been collected yet.
    await lab.waitFor('none of them to be in memory', () => memory(node) < 250, {
      explain: () => `${memory(node)} MiB`,
    });
    const { key, value } = flannelLease(250, '02:00:00:00:fa:01', '198.51.100.1');
    await lab.etcd.put(key, value);
    await lab.etcd.put(`${subnetKeys}10.244.251.0-24`, big);
    await lab.waitFor('a good lease to arrive', async () =>
      (await node.exec('ip', ['route'])).includes('10.244.250.0/24'),
    );
    await lab.waitFor('the big one to be counted', async () =>
      /^twill_agent_leases_malformed 201$/m.test(await metrics(node)),
    );
    await assertAnswers(node);
    assert.match((await readyz(node)).text, /its value of 1400015 characters is longer than any lease's/);
    assert.ok(node.agent!.log().length < 200_000, String(node.agent!.log().length));
  });
});
