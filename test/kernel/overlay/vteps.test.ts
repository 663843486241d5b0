import assert from 'node:assert/strict';
import { mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { findLink } from '../../../src/kernel/netlink/links.ts';
import type { RtSocket } from '../../../src/kernel/netlink/socket.ts';
import { parseLease } from '../../../src/leases/plan/lease.ts';
import { type NetworkConfig, parseNetworkConfig } from '../../../src/leases/plan/network-config.ts';
import { families, ipv4, ipv6, parseAddress } from '../../../src/model/address.ts';
import { Contest } from '../../../src/model/contest.ts';
import { type ListedHost, listHost } from '../../../src/overlay/host.ts';
import { VtepMacs } from '../../../src/overlay/vtep-macs.ts';
import { Vteps } from '../../../src/overlay/vteps.ts';
import { makeLog } from '../../../src/process/log.ts';
import type { Namespace } from '../../lab/namespace.ts';
import { withUplink } from '../../lab/uplink.ts';

const vtep = '{"VtepMAC":"02:00:00:00:00:09"}';
const own = parseLease(
  '10.244.9.0-24&fd00:244:0:9::-64',
  `{"PublicIP":"192.0.2.9","PublicIPv6":"2001:db8::9","BackendType":"vxlan","BackendData":${vtep},"BackendV6Data":${vtep}}`,
);

const plain = (vni: number): NetworkConfig =>
  parseNetworkConfig(`{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan","VNI":${vni}}}`);
const dual = (vni: number): NetworkConfig =>
  parseNetworkConfig(
    `{"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:244::/48","Backend":{"Type":"vxlan","VNI":${vni}}}`,
  );

/** The VXLAN devices of a node over eth0, as an agent's runs have them. */
class Devices {
  readonly vteps: Vteps;
  private readonly socket: RtSocket;

  constructor(node: Namespace, socket: RtSocket) {
    this.socket = socket;
    this.vteps = new Vteps({
      socket,
      macs: new VtepMacs(mkdtempSync(join(node.directory, 'vteps-'))),
      log: makeLog({ level: 'fatal', format: 'json', name: 'test' }),
      contest: new Contest(),
      checksumOffload: undefined,
      publishedMac: () => undefined,
      macContested: () => false,
    });
  }

  host(): Promise<ListedHost> {
    return listHost(this.socket, families);
  }

  async index(name: string): Promise<number | undefined> {
    return (await findLink(this.socket, name))?.index;
  }

  /** @returns the MAC that is published over IPv4 */
  async look(config: NetworkConfig): Promise<string | undefined> {
    return this.vteps.wantedMacs(await this.host(), config).get(ipv4.name);
  }

  /** @returns what is said to be wrong */
  async ensure(config: NetworkConfig, before?: NetworkConfig): Promise<string | undefined> {
    const host = await this.host();
    const addresses = new Map([
      [ipv4.name, parseAddress('192.0.2.9')],
      [ipv6.name, parseAddress('2001:db8::9')],
    ]);
    const underlay = {
      ...{ name: 'eth0', index: (await this.index('eth0'))!, mtu: 1500, addresses },
      ...{ networks: [], carries: [ipv4.name, ipv6.name], why: '' },
    };
    return (await this.vteps.ensure(host, config, underlay, own, before))?.message;
  }
}

test('a foreign MAC counts once for each time that it was set back, however often it is looked at', async () => {
  await withUplink('vteps', [], async (node, socket) => {
    const devices = new Devices(node, socket);
    const config = plain(77);
    const seize = (mac: string): Promise<unknown> => node.ip(`link set flannel.77 address ${mac}`);
    const ours = await devices.look(config);
    assert.equal(await devices.ensure(config), undefined);
    await seize('02:aa:aa:aa:aa:aa');
    // Runs that end before the devices' turn: a lease that cannot be had, say.
    for (let run = 0; run < 3; run++) assert.equal(await devices.look(config), ours);
    assert.equal(await devices.ensure(config), undefined);
    assert.equal((await node.exec('cat', ['/sys/class/net/flannel.77/address'])).trim(), ours);
    assert.equal(await devices.look(config), ours);
    // One who sets it again means it.
    await seize('02:bb:bb:bb:bb:bb');
    assert.equal(await devices.look(config), '02:bb:bb:bb:bb:bb');
  });
});

test('a device that cannot be made stops no other family, unless its own goes by an earlier configuration', async () => {
  // Somebody's: the kernel lets no second device have its number.
  const theirs = 'link add theirs type vxlan id 77 dstport 8472 local 2001:db8::9 dev eth0';
  await withUplink('vteps', ['address add 2001:db8::9/64 dev eth0 nodad', theirs], async (node, socket) => {
    // At the start, and where IPv6 is new to what goes by IPv4.
    const first = new Devices(node, socket);
    for (const before of [undefined, plain(1)]) {
      await first.look(dual(77));
      assert.match(
        (await first.ensure(dual(77), before)) ?? '',
        /cannot create flannel-v6.77: theirs has VNI 77/,
      );
      assert.deepEqual([...first.vteps.indexes], [['ipv4', await first.index('flannel.77')]]);
    }
    // What IPv6 has so far it keeps: nobody goes on to take its entries away.
    const second = new Devices(node, socket);
    await second.look(dual(78));
    assert.equal(await second.ensure(dual(78)), undefined);
    await second.look(dual(77));
    await assert.rejects(second.ensure(dual(77), dual(78)), /cannot create flannel-v6.77/);
    assert.equal(second.vteps.indexes.get('ipv6'), await second.index('flannel-v6.78'));
  });
});
