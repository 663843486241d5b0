import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { type Lab, podSubnets, withLab } from '../../lab/lab.ts';
import type { LabNode } from '../../lab/node.ts';
import { bridgeName } from '../../lab/underlay.ts';

const networkConfig = {
  ...podSubnets,
  EnableIPv6: true,
  IPv6Network: 'fd00:244::/48',
  Backend: { Type: 'vxlan' },
};

/** The underlay's router says so to all nodes. */
async function advertise({ underlay }: Lab): Promise<void> {
  const index = (await underlay.exec('cat', [`/sys/class/net/${bridgeName}/ifindex`])).trim();
  const script = join(import.meta.dirname, '../../lab/raw-packet.js');
  await underlay.exec(process.execPath, [script, 'ra', bridgeName, index]);
}

const defaults = (node: LabNode): Promise<string> => node.exec('ip', ['-6', 'route', 'show', 'default']);
const setting = async (node: LabNode, name: string): Promise<string> =>
  (await node.exec('cat', [`/proc/sys/net/ipv6/conf/${name}`])).trim();

describe('router advertisements', () => {
  it('reach a node that forwards as they did before, and one that did not listen does not', async () => {
    await withLab({ nodes: 2, networkConfig }, async (lab) => {
      const [listening, deaf] = lab.nodes as [LabNode, LabNode];
      for (const node of lab.nodes) {
        node.namespace.sysctl({ 'net/ipv6/conf/eth0/accept_ra': node === listening ? '1' : '0' });
        await node.exec('ip', ['-6', 'route', 'delete', 'default']);
      }
      await lab.waitFor('the advertised route', async () => {
        await advertise(lab);
        return / proto ra /.test(await defaults(listening));
      });
      assert.equal(await defaults(deaf), '');
      await listening.startAgent();
      await deaf.startAgent(['--iface=eth0']);
      assert.equal(await setting(listening, 'all/forwarding'), '1');
      assert.match(await defaults(listening), / proto ra /);
      assert.equal(await setting(listening, 'eth0/accept_ra'), '2');
      assert.equal(await setting(deaf, 'eth0/accept_ra'), '0');
      await listening.exec('ip', ['-6', 'route', 'delete', 'default', 'dev', 'eth0', 'proto', 'ra']);
      await lab.waitFor('the route of another advertisement', async () => {
        await advertise(lab);
        return / proto ra /.test(await defaults(listening));
      });
      await listening.agent!.stop();
      await listening.startAgent();
      assert.match(await defaults(listening), / proto ra /);
      assert.equal(listening.agent!.log().match(/set accept_ra to 2/g)?.length, 1);
    });
  });

  it("of pods are not listened to, whatever the node's own networks need", async () => {
    await withLab({ nodes: 1, networkConfig }, async (lab) => {
      const node = lab.nodes[0]!;
      await node.startAgent();
      assert.equal(await setting(node, 'default/accept_ra'), '2');
      await node.addPod('a');
      for (const device of ['cni0', 'flannel.1', 'flannel-v6.1'])
        assert.equal(await setting(node, `${device}/accept_ra`), '0', device);
    });
  });
});
