import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import pino from 'pino';
import { fdbOf } from '../../../src/kernel/netlink/neighbours.ts';
import type { RtSocket } from '../../../src/kernel/netlink/socket.ts';
import { parseLease } from '../../../src/leases/plan/lease.ts';
import { ipv4, parseAddress, parsePrefix } from '../../../src/model/address.ts';
import { Contest } from '../../../src/model/contest.ts';
import { OverlayPeers } from '../../../src/overlay/peers.ts';
import { makeGround } from '../../../src/overlay/plan/ground.ts';
import { withdrawWrongRoutes } from '../../../src/overlay/withdraw.ts';
import { LogLimiter } from '../../../src/process/log.ts';
import type { Namespace } from '../../lab/namespace.ts';
import { withUplink } from '../../lab/uplink.ts';

const log = pino({ level: 'silent' });

/** A node with eth0 and flannel.1. */
const withNode = (work: (node: Namespace, socket: RtSocket) => Promise<void>): Promise<void> =>
  withUplink(
    'leases',
    [
      'route add default via 192.0.2.1',
      'link add flannel.1 type vxlan id 1 dev eth0 local 192.0.2.9 dstport 8472 nolearning',
      'address add 10.244.9.0/32 dev flannel.1',
      'link set flannel.1 up',
    ],
    work,
  );

const index = async (node: Namespace, name: string): Promise<number> =>
  Number(await node.exec('cat', [`/sys/class/net/${name}/ifindex`]));

describe('forwarding entries in the kernel', () => {
  it('a further destination of a unicast MAC is taken without an error, and does nothing', async () => {
    await withNode(async (node, socket) => {
      const entry = ['02:00:00:00:00:07', 'dev', 'flannel.1', 'dst'];
      await node.exec('bridge', ['fdb', 'add', ...entry, '192.0.2.7']);
      await node.exec('bridge', ['fdb', 'append', ...entry, '192.0.2.8']);
      const listed = await socket.list(fdbOf(await index(node, 'flannel.1')));
      assert.deepEqual(
        listed.map(({ mac, destination }) => `${mac} ${destination?.text}`),
        ['02:00:00:00:00:07 192.0.2.7'],
      );
    });
  });

  it('what is believed of them is what stands, after each change of leases that want one MAC', async () => {
    await withNode(async (node, socket) => {
      const device = await index(node, 'flannel.1');
      const underlay = await index(node, 'eth0');
      const lease = (third: number, mac: number, created: number, ip = third) =>
        parseLease(
          `10.244.${third}.0-24`,
          `{"PublicIP":"192.0.2.${ip}","BackendType":"vxlan","BackendData":{"VtepMAC":"02:00:00:00:00:0${mac}"}}`,
          { created, changed: created },
        );
      const ground = makeGround(
        [parsePrefix('10.244.0.0/16')],
        { links: [], addresses: [], gateways: [], servers: [] },
        () => false,
      );
      const peers = new OverlayPeers(socket, log, new LogLimiter(), new Contest());
      const path = {
        family: ipv4,
        vxlan: device,
        nexthops: true,
        underlay,
        networks: [parsePrefix('192.0.2.0/24')],
        onLink: () => underlay,
        reach: 0,
      };
      const backend = {
        type: 'vxlan',
        vni: 1,
        port: 8472,
        mtu: undefined,
        directRouting: false,
        learning: false,
        gbp: false,
      } as const;
      const own = lease(9, 9, 1);
      const steps: [ReturnType<typeof lease>[], string[]][] = [
        [[lease(7, 7, 10)], ['7 192.0.2.7']],
        [[lease(7, 7, 10), lease(8, 7, 20)], ['7 192.0.2.7']],
        [[lease(7, 7, 10, 77), lease(8, 7, 20)], ['7 192.0.2.77']],
        [[lease(8, 7, 20)], ['7 192.0.2.8']],
        [
          [lease(8, 7, 20), lease(7, 6, 30)],
          ['6 192.0.2.7', '7 192.0.2.8'],
        ],
        [[lease(8, 6, 40), lease(7, 6, 30)], ['6 192.0.2.7']],
        [[], []],
      ];
      for (const full of [true, false])
        for (const [leases, expected] of steps) {
          const all = new Map([own, ...leases].map((one) => [one.name, one]));
          await peers.sync({ leases: all, own, paths: [path], backend, ground, adopting: false }, full);
          const listed = (await socket.list(fdbOf(device))).map(
            ({ mac, destination }) => `${mac.at(-1)} ${destination?.text}`,
          );
          assert.deepEqual(listed.sort(), expected);
          for (const one of await socket.list(fdbOf(device))) {
            const believed = peers.expected(`f ${one.mac} ipv4`);
            assert.equal(believed?.kind === 'fdb' && believed.destination.text, one.destination?.text);
          }
        }
    });
  });
});

describe('routes of ours that an older version made wrongly', () => {
  it('are withdrawn where they take addresses away that are in use, and no others are', async () => {
    await withNode(async (node, socket) => {
      const tunnel = 'via 10.244.7.0 dev flannel.1 onlink';
      const wrong = ['192.0.2.0/25', '128.0.0.0/1', '192.0.2.1/32', '198.51.100.0/24'];
      const kept = ['10.244.7.0/24', '10.244.8.0/24'];
      for (const destination of [...wrong, ...kept])
        await node.ip(
          `route add ${destination} ${tunnel} ${destination.startsWith('128') ? '' : 'proto 80'}`,
        );
      await node.ip('route add 203.0.113.0/24 via 192.0.2.1', 'route add blackhole 10.244.9.0/24 proto 80');
      await withdrawWrongRoutes({
        socket,
        servers: [parseAddress('198.51.100.7')],
        bridge: 'cni0',
        log,
      });
      const routes = await node.exec('ip', ['-N', 'route']);
      for (const destination of wrong)
        assert.ok(!routes.includes(`${destination.replace('/32', '')} via 10.244.7.0`), routes);
      for (const destination of [
        ...kept,
        '203.0.113.0/24',
        '10.244.9.0/24 proto 80',
        '192.0.2.0/24 dev eth0',
      ])
        assert.ok(routes.includes(destination), routes);
    });
  });
});
