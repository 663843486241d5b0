import assert from 'node:assert/strict';
import { mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { listLinks } from '../../../src/kernel/netlink/links.ts';
import { RtSocket } from '../../../src/kernel/netlink/socket.ts';
import { inNetns } from '../../../src/kernel/netns.ts';
import { parseLease } from '../../../src/leases/plan/lease.ts';
import { type NetworkConfig, parseNetworkConfig } from '../../../src/leases/plan/network-config.ts';
import { ipv4, ipv6, parseAddress } from '../../../src/model/address.ts';
import { Contest } from '../../../src/model/contest.ts';
import { listHost } from '../../../src/overlay/host.ts';
import { VtepMacs } from '../../../src/overlay/vtep-macs.ts';
import { Vteps } from '../../../src/overlay/vteps.ts';
import { makeLog } from '../../../src/process/log.ts';
import { withNamespace } from '../../lab/namespace.ts';

test('a foreign MAC counts once for each time that it was set back, however often it is looked at', async () => {
  await withNamespace('vteps', async (node) => {
    await node.ip(
      'link add eth0 type veth peer name other',
      'link set other up',
      'link set eth0 up',
      'address add 192.0.2.9/24 dev eth0',
    );
    const socket = inNetns(node.path, () => new RtSocket());
    try {
      const vteps = new Vteps({
        socket,
        macs: new VtepMacs(mkdtempSync(join(node.directory, 'vteps-'))),
        log: makeLog({ level: 'fatal', format: 'json', name: 'test' }),
        contest: new Contest(),
        checksumOffload: undefined,
        publishedMac: () => undefined,
        macContested: () => false,
      });
      const config = parseNetworkConfig('{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan","VNI":77}}');
      const eth0 = (await listHost(socket, [ipv4])).links.find(({ name }) => name === 'eth0')!;
      const address = parseAddress('192.0.2.9');
      const underlay = {
        ...{ name: 'eth0', index: eth0.index, mtu: 1500, addresses: new Map([[ipv4.name, address]]) },
        ...{ networks: [], carries: [ipv4.name], why: '' },
      };
      const own = parseLease(
        '10.244.9.0-24',
        '{"PublicIP":"192.0.2.9","BackendType":"vxlan","BackendData":{"VtepMAC":"02:00:00:00:00:09"}}',
      );
      const look = async (): Promise<string> =>
        vteps.wantedMacs(await listHost(socket, [ipv4]), config).get(ipv4.name)!;
      const ensure = async (): Promise<void> =>
        assert.equal(
          await vteps.ensure(await listHost(socket, [ipv4]), config, underlay, own, undefined),
          undefined,
        );
      const seize = (mac: string): Promise<unknown> => node.ip(`link set flannel.77 address ${mac}`);

      const ours = await look();
      await ensure();
      await seize('02:aa:aa:aa:aa:aa');
      // Runs that end before the devices' turn: a lease that cannot be had, say.
      for (let run = 0; run < 3; run++) assert.equal(await look(), ours);
      await ensure();
      assert.equal((await node.exec('cat', ['/sys/class/net/flannel.77/address'])).trim(), ours);
      assert.equal(await look(), ours);
      // One who sets it again means it.
      await seize('02:bb:bb:bb:bb:bb');
      assert.equal(await look(), '02:bb:bb:bb:bb:bb');
    } finally {
      socket.close();
    }
  });
});

test('a device that cannot be made stops no other family, unless its own goes by an earlier configuration', async () => {
  await withNamespace('vteps', async (node) => {
    await node.ip(
      'link add eth0 type veth peer name other',
      'link set other up',
      'link set eth0 up',
      'address add 192.0.2.9/24 dev eth0',
      'address add 2001:db8::9/64 dev eth0 nodad',
      // Somebody's: the kernel lets no second device have its number.
      'link add theirs type vxlan id 77 dstport 8472 local 2001:db8::9 dev eth0',
    );
    const socket = inNetns(node.path, () => new RtSocket());
    const device = async (name: string): Promise<number | undefined> =>
      (await listLinks(socket)).find((link) => link.name === name)?.index;
    try {
      const makeVteps = (): Vteps =>
        new Vteps({
          socket,
          macs: new VtepMacs(mkdtempSync(join(node.directory, 'vteps-'))),
          log: makeLog({ level: 'fatal', format: 'json', name: 'test' }),
          contest: new Contest(),
          checksumOffload: undefined,
          publishedMac: () => undefined,
          macContested: () => false,
        });
      const config = (vni: number) =>
        parseNetworkConfig(
          `{"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:244::/48","Backend":{"Type":"vxlan","VNI":${vni}}}`,
        );
      const addresses = new Map([
        [ipv4.name, parseAddress('192.0.2.9')],
        [ipv6.name, parseAddress('2001:db8::9')],
      ]);
      const underlay = {
        ...{ name: 'eth0', index: (await device('eth0'))!, mtu: 1500, addresses },
        ...{ networks: [], carries: [ipv4.name, ipv6.name], why: '' },
      };
      const own = parseLease(
        '10.244.9.0-24&fd00:244:0:9::-64',
        '{"PublicIP":"192.0.2.9","PublicIPv6":"2001:db8::9","BackendType":"vxlan","BackendData":{"VtepMAC":"02:00:00:00:00:09"},"BackendV6Data":{"VtepMAC":"02:00:00:00:00:09"}}',
      );
      const ensure = async (
        vteps: Vteps,
        vni: number,
        before?: NetworkConfig,
      ): Promise<string | undefined> => {
        const host = await listHost(socket, [ipv4, ipv6]);
        vteps.wantedMacs(host, config(vni));
        return (await vteps.ensure(host, config(vni), underlay, own, before))?.message;
      };

      // At the start, and where IPv6 is new to what goes by IPv4.
      const first = makeVteps();
      for (const before of [
        undefined,
        parseNetworkConfig('{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan"}}'),
      ]) {
        assert.match(
          (await ensure(first, 77, before)) ?? '',
          /cannot create flannel-v6.77: theirs has VNI 77/,
        );
        assert.deepEqual([...first.indexes], [['ipv4', await device('flannel.77')]]);
      }
      // What IPv6 has so far it keeps: nobody goes on to take its entries away.
      const second = makeVteps();
      assert.equal(await ensure(second, 78), undefined);
      await assert.rejects(ensure(second, 77, config(78)), /cannot create flannel-v6.77/);
      assert.equal(second.indexes.get('ipv6'), await device('flannel-v6.78'));
    } finally {
      socket.close();
    }
  });
});
