import assert from 'node:assert/strict';
import { closeSync, openSync, readlinkSync } from 'node:fs';
import { constants } from 'node:os';
import { it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { kernelError } from '../../../src/kernel/errno.ts';
import { addAddress, listAddresses } from '../../../src/kernel/netlink/addresses.ts';
import type { Message } from '../../../src/kernel/netlink/codec.ts';
import { NUD_PERMANENT, RTNLGRP_LINK } from '../../../src/kernel/netlink/constants.ts';
import { EventSocket } from '../../../src/kernel/netlink/events.ts';
import * as links from '../../../src/kernel/netlink/links.ts';
import * as neighbours from '../../../src/kernel/netlink/neighbours.ts';
import {
  deleteNexthop,
  hasNexthops,
  nexthopsOf,
  replaceNexthop,
} from '../../../src/kernel/netlink/nexthops.ts';
import { lookUpRoute } from '../../../src/kernel/netlink/route-lookup.ts';
import { deleteRoute, replaceRoute, routesOf } from '../../../src/kernel/netlink/routes.ts';
import { type Change, RtSocket } from '../../../src/kernel/netlink/socket.ts';
import { createVxlan } from '../../../src/kernel/netlink/vxlan.ts';
import { inNetns } from '../../../src/kernel/netns.ts';
import { ipv4, ipv6, parseAddress, parsePrefix, prefixHost } from '../../../src/model/address.ts';
import { isTwillError } from '../../../src/model/error.ts';
import { type Namespace, withNamespace } from '../../lab/namespace.ts';
import { waitFor } from '../../lab/wait.ts';

const MARK = 200;

function withSocket(work: (socket: RtSocket, namespace: Namespace) => Promise<void>): () => Promise<void> {
  return () =>
    withNamespace('netlink', async (namespace) => {
      const socket = inNetns(namespace.path, () => new RtSocket());
      try {
        await work(socket, namespace);
      } finally {
        socket.close();
      }
    });
}

/** As of a kernel before 5.0: of neighbours and forwarding entries it has lists alone. */
class OldKernel extends RtSocket {
  override ask({ what }: Change): Promise<Message> {
    return Promise.reject(kernelError(what, constants.errno.EOPNOTSUPP));
  }
}

async function apply(socket: RtSocket, ...changes: Change[]): Promise<void> {
  assert.deepEqual(
    (await socket.batch(changes)).filter((error) => error !== undefined),
    [],
  );
}

async function link(socket: RtSocket, name: string): Promise<links.Link> {
  const found = (await links.listLinks(socket)).find((candidate) => candidate.name === name);
  assert.ok(found, `no device ${name}`);
  return found;
}

it(
  'creates a VXLAN device that reads back with the parameters it was given',
  withSocket(async (socket, namespace) => {
    await apply(socket, links.createDevice('bridge', { name: 'under', up: true }));
    const under = await link(socket, 'under');
    for (const [name, local] of [
      ['flannel.7', '192.0.2.1'],
      ['flannel-v6.7', 'fd00::1'],
    ] as const) {
      const parameters = {
        vni: 7,
        port: name === 'flannel.7' ? 8472 : 8473,
        local: parseAddress(local),
        underlayIndex: under.index,
        learning: false,
        gbp: false,
      };
      await apply(socket, createVxlan({ name, mtu: 1430, mac: '0e:11:22:33:44:55' }, parameters));
      const made = await link(socket, name);
      assert.deepEqual(made.vxlan, parameters);
      assert.equal(made.mtu, 1430);
      assert.equal(made.mac, '0e:11:22:33:44:55');
      assert.equal(made.up, false);
      assert.match(await namespace.exec('ip', ['-d', 'link', 'show', name]), /nolearning/);
    }
  }),
);

it(
  'sets, lists and deletes routes, neighbours and forwarding entries of both families',
  withSocket(async (socket, namespace) => {
    const old = inNetns(namespace.path, () => new OldKernel());
    await apply(socket, links.createDevice('bridge', { name: 'under', up: true }));
    const underlayIndex = (await link(socket, 'under')).index;
    const vxlan = {
      vni: 1,
      port: 8472,
      local: parseAddress('192.0.2.1'),
      underlayIndex,
      learning: false,
      gbp: false,
    };
    await apply(socket, createVxlan({ name: 'flannel.1', up: true }, vxlan));
    const device = (await link(socket, 'flannel.1')).index;
    await apply(socket, addAddress({ index: device, address: parseAddress('10.244.0.0'), length: 32 }));
    await apply(socket, addAddress({ index: device, address: parseAddress('fd00:f::'), length: 128 }));
    assert.deepEqual(
      (await listAddresses(socket, ipv4))
        .filter((entry) => entry.index === device)
        .map((entry) => `${entry.address.text}/${entry.length}`),
      ['10.244.0.0/32'],
    );
    for (const [family, subnet] of [
      [ipv4, '10.244.7.0/24'],
      [ipv6, 'fd00:f:7::/64'],
    ] as const) {
      const destination = parsePrefix(subnet);
      const gateway = destination.address;
      await apply(
        socket,
        neighbours.setNeighbour(device, gateway, '0e:00:00:00:00:07'),
        replaceRoute({ destination, gateway, device, onlink: true, protocol: MARK }),
      );
      const route = (await socket.list(routesOf(family))).find((entry) => entry.destination.text === subnet);
      assert.ok(route);
      assert.equal(route.gateway?.text, gateway.text);
      assert.equal(route.device, device);
      assert.equal(route.protocol, MARK);
      const found = await socket.list(neighbours.neighboursOf(family, device));
      assert.deepEqual(
        found.filter((entry) => entry.mac === '0e:00:00:00:00:07').map((entry) => entry.address.text),
        [gateway.text],
      );
      for (const kernel of [socket, old]) {
        const one = await neighbours.findNeighbour(kernel, device, gateway);
        assert.deepEqual([one?.mac, one?.state], ['0e:00:00:00:00:07', NUD_PERMANENT]);
        const other = await neighbours.findNeighbour(kernel, device, prefixHost(destination, 9));
        assert.equal(other, undefined);
      }
      await apply(socket, deleteRoute(route), neighbours.deleteNeighbour(device, gateway));
      assert.ok(!(await socket.list(routesOf(family))).some((entry) => entry.destination.text === subnet));
    }
    const hop = { id: 7, gateway: parseAddress('10.244.7.0'), device, protocol: MARK };
    const destination = parsePrefix('10.244.7.0/24');
    const byNexthop = { destination, device, protocol: MARK, nexthop: hop.id };
    const nexthops = () => socket.list(nexthopsOf(device));
    const routesThere = async () =>
      (await socket.list(routesOf(ipv4))).filter((entry) => entry.destination.text === destination.text);
    assert.equal(await hasNexthops(socket), true);
    await apply(socket, replaceNexthop(hop), replaceRoute(byNexthop));
    assert.deepEqual(await nexthops(), [hop]);
    const [standing] = await routesThere();
    assert.deepEqual([standing?.nexthop, standing?.gateway?.text], [7, '10.244.7.0']);
    await apply(socket, deleteRoute(standing!));
    assert.deepEqual(await routesThere(), []);
    await apply(socket, replaceRoute(byNexthop), deleteNexthop(hop.id));
    assert.deepEqual([await nexthops(), await routesThere()], [[], []]);
    const to = parseAddress('192.0.2.7');
    await apply(socket, neighbours.setFdb(device, '0e:00:00:00:00:07', to));
    const entries = await socket.list(neighbours.fdbOf(device));
    assert.deepEqual(
      entries.map((entry) => [entry.mac, entry.destination?.text]),
      [['0e:00:00:00:00:07', '192.0.2.7']],
    );
    const forwarder = { index: device, isBridge: false };
    for (const kernel of [socket, old]) {
      const forwarding = await neighbours.findForwarding(kernel, forwarder, '0e:00:00:00:00:07');
      assert.deepEqual([forwarding?.device, forwarding?.destination?.text], [device, '192.0.2.7']);
      assert.equal(await neighbours.findForwarding(kernel, forwarder, '0e:00:00:00:00:09'), undefined);
    }
    old.close();
    await apply(socket, neighbours.setFdb(device, '0e:00:00:00:00:07', parseAddress('192.0.2.8')));
    assert.deepEqual(
      (await socket.list(neighbours.fdbOf(device))).map((entry) => entry.destination?.text),
      ['192.0.2.8'],
    );
    await apply(socket, neighbours.deleteFdb(device, '0e:00:00:00:00:07', parseAddress('192.0.2.8')));
    assert.deepEqual(await socket.list(neighbours.fdbOf(device)), []);
  }),
);

it(
  'bears the far end of a veth pair inside another namespace, and deletes a group at once',
  withSocket(async (socket, namespace) => {
    await withNamespace('pod', async (pod) => {
      const fd = openSync(pod.path, 'r');
      const inside = inNetns(pod.path, () => new RtSocket());
      try {
        const peer = { name: 'eth0', mtu: 1450, mac: '0a:58:0a:f4:00:02', netnsFd: fd };
        await apply(
          socket,
          links.createDevice('bridge', { name: 'cni0', up: true }),
          links.createVeth({ name: 'veth1', mtu: 1450 }, peer),
        );
        assert.equal((await link(inside, 'eth0')).mac, '0a:58:0a:f4:00:02');
        const host = await link(socket, 'veth1');
        const master = (await link(socket, 'cni0')).index;
        await apply(
          socket,
          links.setLink(host.index, { master, group: 77, up: true }),
          links.setBridgePort('veth1', { hairpin: true, mtu: 1450 }),
        );
        const port = await link(socket, 'veth1');
        assert.deepEqual([port.master, port.group, port.hairpin, port.up], [master, 77, true, true]);
        const bridge = { index: master, isBridge: true };
        const old = inNetns(namespace.path, () => new OldKernel());
        for (const kernel of [socket, old]) {
          const own = await neighbours.findForwarding(kernel, bridge, port.mac);
          assert.deepEqual([own?.device, own?.destination], [port.index, undefined]);
          assert.equal(await neighbours.findForwarding(kernel, bridge, '0e:00:00:00:00:09'), undefined);
        }
        old.close();
        await apply(socket, links.deleteLinkGroup(77));
        assert.deepEqual(
          (await links.listLinks(socket)).map((entry) => entry.name),
          ['lo', 'cni0'],
        );
        assert.deepEqual(
          (await links.listLinks(inside)).map((entry) => entry.name),
          ['lo'],
        );
      } finally {
        inside.close();
        closeSync(fd);
      }
    });
  }),
);

it(
  'reports each refused change of a large batch by name and applies the others',
  withSocket(async (socket) => {
    await apply(socket, links.createDevice('bridge', { name: 'br0', up: true }));
    const device = (await link(socket, 'br0')).index;
    const address = (index: number) => prefixHost(parsePrefix('10.1.0.0/16'), index);
    // Every third change deletes what is not there.
    const changes = Array.from({ length: 450 }, (_, index) =>
      index % 3 === 2
        ? neighbours.deleteNeighbour(device, address(10_000 + index))
        : neighbours.setNeighbour(device, address(index), '0e:00:00:00:00:07'),
    );
    const results = await socket.batch(changes);
    assert.equal(results.filter((error) => error !== undefined).length, 150);
    const refused = results[449];
    assert.ok(isTwillError(refused, 'not-found'));
    assert.match(refused.message, /delete neighbour 10\.1\.40\.209: ENOENT/);
    const set = (await socket.list(neighbours.neighboursOf(ipv4, device))).filter(
      ({ mac }) => mac === '0e:00:00:00:00:07',
    );
    assert.equal(set.length, 300);
  }),
);

it(
  'fails a large batch whose socket is closed meanwhile, and closes it only when nothing is being sent',
  withSocket(async (socket, namespace) => {
    await apply(socket, links.createDevice('bridge', { name: 'br0', up: true }));
    const device = (await link(socket, 'br0')).index;
    const other = inNetns(namespace.path, () => new RtSocket());
    const addresses = Array.from({ length: 2000 }, (_, index) =>
      prefixHost(parsePrefix('10.1.0.0/16'), index),
    );
    const batch = other.batchOf(addresses, (address) =>
      neighbours.setNeighbour(device, address, '0e:00:00:00:00:07'),
    );
    // A first part is with the kernel.
    await new Promise((resolve) => setImmediate(resolve));
    other.close();
    await assert.rejects(batch, (error) => isTwillError(error, 'unavailable'));
    const count = async (): Promise<number> =>
      (await socket.list(neighbours.neighboursOf(ipv4, device))).filter(
        ({ mac }) => mac === '0e:00:00:00:00:07',
      ).length;
    // A thread may be in the midst of a part: whole ones are set in the end, no more come, and not all.
    const set = await waitFor('whole parts to be set', async () => {
      const before = await count();
      await delay(10);
      return before > 0 && before % 200 === 0 && before === (await count()) && before;
    });
    assert.ok(set < 2000, `${set} were set`);
  }),
);

it(
  'tells subscribers about changes made by others',
  withSocket(async (socket, namespace) => {
    let events: EventSocket | undefined;
    try {
      const seen = new Promise<links.Link>((resolve, reject) => {
        const onEvent = (message: Message): void => {
          const changed = links.parseLink(message);
          if (changed?.name === 'br9') resolve(changed);
        };
        events = inNetns(
          namespace.path,
          () => new EventSocket({ groups: [RTNLGRP_LINK], onEvent, onLost: reject }),
        );
      });
      await apply(socket, links.createDevice('bridge', { name: 'br9', up: true }));
      assert.equal((await seen).kind, 'bridge');
    } finally {
      events?.close();
    }
  }),
);

it('comes back from a namespace whatever the work does, and names a path that is none', async () => {
  const home = readlinkSync('/proc/thread-self/ns/net');
  await withNamespace('netlink', async (namespace) => {
    const inside = inNetns(namespace.path, () => readlinkSync('/proc/thread-self/ns/net'));
    assert.notEqual(inside, home);
    assert.throws(() =>
      inNetns(namespace.path, () => {
        throw new Error('work failed');
      }),
    );
    assert.equal(readlinkSync('/proc/thread-self/ns/net'), home);
  });
  assert.throws(
    () => inNetns('/run/netns/no-such', () => 1),
    (error) => isTwillError(error, 'not-found'),
  );
  assert.throws(
    () => inNetns('/proc/self/status', () => 1),
    (error: Error) => isTwillError(error, 'invalid') && error.message.includes("'/proc/self/status'"),
  );
});

it(
  'lists for many callers at once, though the kernel allows a socket one dump at a time',
  withSocket(async (socket) => {
    const bridges = Array.from({ length: 60 }, (_, index) =>
      links.createDevice('bridge', { name: `br${index}` }),
    );
    await apply(socket, ...bridges);
    const lists = await Promise.all(Array.from({ length: 20 }, () => links.listLinks(socket)));
    for (const list of lists) assert.ok(list.length >= bridges.length);
  }),
);

it(
  'finds the device towards an address, in both families, and none where there is no route',
  withSocket(async (socket, namespace) => {
    await namespace.ip(
      'link add near type bridge',
      'link add far type bridge',
      'link set near up',
      'link set far up',
      'addr add 192.0.2.1/24 dev near',
      'addr add 2001:db8::1/64 dev near nodad',
      'route add 198.51.100.0/24 dev far',
    );
    const { near, far } = { near: await link(socket, 'near'), far: await link(socket, 'far') };
    for (const [address, device] of [
      ['192.0.2.9', near.index],
      ['2001:db8::9', near.index],
      ['198.51.100.7', far.index],
      ['203.0.113.1', undefined],
    ] as const)
      assert.equal((await lookUpRoute(socket, parseAddress(address)))?.device, device, address);
  }),
);
