import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Lease, parseLease } from '../../../src/leases/plan/lease.ts';
import { ipv4, parseAddress } from '../../../src/model/address.ts';
import { PeerRoutes, type PeerRoutesInput } from '../../../src/overlay/peer-routes.ts';
import { withUplink } from '../../lab/uplink.ts';

const leaseOf = (host: number): Lease =>
  parseLease(`10.244.${host}.0-24`, `{"PublicIP":"192.0.2.${host}","BackendType":"host-gw"}`);

test('a node whose lease comes while the kernel is being asked for the others’ is thought of anew once it was asked', async () => {
  await withUplink('ways', [], async (node, socket) => {
    const device = Number(await node.exec('cat', ['/sys/class/net/eth0/ifindex']));
    const routes = new PeerRoutes(socket);
    const look = (full: boolean, ...hosts: number[]): Promise<boolean> => {
      const leases = new Map(hosts.map((host) => [`10.244.${host}.0-24`, leaseOf(host)]));
      const underlay = { addresses: new Map([[ipv4.name, parseAddress('192.0.2.9')]]) };
      return routes.look(
        {
          leases,
          plausible: () => true,
          backend: { type: 'host-gw' },
          underlay,
          domain: undefined,
          tunnels: new Set(),
        } as unknown as PeerRoutesInput,
        full,
      );
    };
    const [early, late, asked] = [11, 12, 13].map((host) => parseAddress(`192.0.2.${host}`));
    await look(true, 11);
    assert.equal(routes.onLink(early!), device);
    const { version } = routes;
    assert.equal(routes.onLink(late!), undefined, 'nothing is known of it yet');
    await look(false, 11, 12);
    assert.equal(routes.onLink(late!), device);
    assert.notEqual(routes.version, version, 'what was made of it holds no longer');
    // Others cost no such thing.
    const settled = routes.version;
    await look(false, 11, 12, 13);
    assert.equal(routes.onLink(asked!), device);
    assert.equal(routes.version, settled);
    // The same where all are asked for again.
    assert.equal(routes.onLink(parseAddress('192.0.2.14')), undefined);
    await look(true, 11, 12, 13, 14);
    assert.notEqual(routes.version, settled);
    assert.equal(await look(true, 11, 12, 13, 14), false);
  });
});
