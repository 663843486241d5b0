import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { etcdPrefix, Lab } from '../../lab/lab.ts';
import type { LabNode } from '../../lab/node.ts';
import { servicePort } from '../../lab/place.ts';
import type { Pod } from '../../lab/pod.ts';
import { seeded } from '../../lab/random.ts';
import { assertConverges, flannelLease } from './state.ts';

/** No timer helps: the kernel's events alone must do. */
const flags = ['--resync=3600'];
const rounds = 8;
const actionsInRound = 12;
/** Thirds of the peers' subnets: many, so that no object is changed so often that it counts as contested. */
const thirds = Array.from({ length: 150 }, (_, index) => 40 + index);

describe('random changes of leases and kernel', () => {
  const seed = Number(process.env.TWILL_TEST_SEED ?? 20_261_127);
  const random = seeded(seed);
  let lab: Lab;
  let one: LabNode;
  let a: Pod;
  let b: Pod;

  const third = (): number => thirds[random(thirds.length)]!;
  const mac = (of: number): string => `02:00:00:00:01:${of.toString(16).padStart(2, '0')}`;
  const put = async (of: number, ip: number): Promise<void> => {
    const { key, value } = flannelLease(of, mac(of), `198.18.0.${ip}`);
    await lab.etcd.put(key, value);
  };
  /** What fails because its object is not there now does no harm. */
  const tamper = async (program: string, ...args: string[]): Promise<void> => {
    await one.namespace.run(program, args);
  };

  const actions: readonly (readonly [weight: number, name: string, act: () => Promise<void>])[] = [
    [8, 'a node comes or moves', async () => put(third(), random(200) + 1)],
    [5, 'a node goes', async () => lab.etcd.delete(`${etcdPrefix}/subnets/10.244.${third()}.0-24`)],
    [4, 'a route is deleted', async () => tamper('ip', 'route', 'delete', `10.244.${third()}.0/24`)],
    [
      2,
      'a route is replaced',
      async () => tamper('ip', 'route', 'replace', `10.244.${third()}.0/24`, 'via', '192.0.2.1'),
    ],
    [
      2,
      'a foreign route comes',
      async () => {
        const of = third();
        await tamper(
          'ip',
          'route',
          'replace',
          `10.244.${of}.0/24`,
          'via',
          `10.244.${of}.0`,
          'dev',
          'flannel.1',
          'onlink',
        );
      },
    ],
    [
      3,
      'a neighbour is deleted',
      async () => tamper('ip', 'neighbour', 'delete', `10.244.${third()}.0`, 'dev', 'flannel.1'),
    ],
    [
      2,
      'a neighbour is changed',
      async () =>
        tamper(
          'ip',
          'neighbour',
          'replace',
          `10.244.${third()}.0`,
          'lladdr',
          mac(255),
          'dev',
          'flannel.1',
          'nud',
          'permanent',
        ),
    ],
    [
      3,
      'a forwarding entry comes',
      async () =>
        tamper(
          'bridge',
          'fdb',
          'append',
          mac(third()),
          'dev',
          'flannel.1',
          'dst',
          `198.18.1.${random(200) + 1}`,
        ),
    ],
    [1, 'all forwarding entries go', async () => tamper('bridge', 'fdb', 'flush', 'dev', 'flannel.1')],
    [1, 'all routes through the device go', async () => tamper('ip', 'route', 'flush', 'dev', 'flannel.1')],
    [1, 'the device goes down', async () => tamper('ip', 'link', 'set', 'flannel.1', 'down')],
    [1, 'the device is deleted', async () => tamper('ip', 'link', 'delete', 'flannel.1')],
    [
      1,
      'the agent is killed',
      async () => {
        await one.agent!.kill();
        await one.startAgent(flags);
      },
    ],
    [
      1,
      'etcd restarts',
      async () => {
        await lab.etcd.stop();
        await lab.etcd.start();
      },
    ],
    // Refused where nothing was written since the last time.
    [1, 'etcd is compacted', async () => lab.etcd.compact().catch(() => {})],
  ];
  /** The device itself is one object: more would make it a contested one, which is put right later and later. */
  let deviceActions = 3;
  const choose = (): (typeof actions)[number] => {
    let left = random(actions.reduce((sum, [weight]) => sum + weight, 0));
    for (const action of actions) {
      left -= action[0];
      if (left >= 0) continue;
      if (!action[1].startsWith('the device')) return action;
      return deviceActions-- > 0 ? action : choose();
    }
    throw new Error('no action');
  };

  before(async () => {
    lab = await Lab.start({ nodes: 2, underlay: 'ipv4' });
    one = lab.nodes[0]!;
    await Promise.all(thirds.slice(0, 100).map((of) => put(of, of)));
    await Promise.all(lab.nodes.map((node) => node.startAgent(flags)));
    [a, b] = (await Promise.all(lab.nodes.map((node) => node.addPod('a')))) as [Pod, Pod];
    await b.serve();
  });
  after(() => lab.stop());

  for (let round = 1; round <= rounds; round++) {
    it(`round ${round}: the kernel ends as desired, and traffic flows (seed ${seed})`, async () => {
      const done: string[] = [];
      for (let count = 0; count < actionsInRound; count++) {
        const [, name, act] = choose();
        done.push(name);
        await act();
      }
      try {
        for (const node of lab.nodes) await assertConverges(lab, node);
        const answer = await lab.waitFor('traffic', () =>
          a.probe.ask({ protocol: 'tcp', address: b.ipv4, port: servicePort, timeoutMs: 500 }),
        );
        assert.equal(answer.client, a.ipv4);
      } catch (error) {
        throw new Error(`after: ${done.join('; ')}`, { cause: error });
      }
    });
  }
});
