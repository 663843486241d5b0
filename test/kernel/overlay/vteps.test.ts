import assert from 'node:assert/strict';
import { mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { RtSocket } from '../../../src/kernel/netlink/socket.ts';
import { inNetns } from '../../../src/kernel/netns.ts';
import { parseLease } from '../../../src/leases/plan/lease.ts';
import { parseNetworkConfig } from '../../../src/leases/plan/network-config.ts';
import { ipv4, parseAddress } from '../../../src/model/address.ts';
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
        assert.equal(await vteps.ensure(await listHost(socket, [ipv4]), config, underlay, own), undefined);
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
