// flannel's backend alloc: who has which subnet, and nothing else. Its entries in etcd have no BackendType.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Lab } from '../../lab/lab.ts';
import type { LabNode } from '../../lab/node.ts';
import { subnetKeys, threeSubnets, withTwoNodes } from '../../lab/two-nodes.ts';
import { healthFlags, readyz } from '../agent/readiness.ts';

describe('the backend alloc, with entries as flannel writes them', () => {
  let lab: Lab;
  let one: LabNode;
  let two: LabNode;

  withTwoNodes({ networkConfig: { ...threeSubnets, Backend: { Type: 'alloc' } } }, (made) => {
    ({ lab, one, two } = made);
  });

  const keys = async (): Promise<Record<string, string>> =>
    Object.fromEntries(
      (await lab.etcd.keys(subnetKeys)).map(({ key, value }) => [key.slice(subnetKeys.length), value]),
    );
  const put = async (name: string, address: string): Promise<void> =>
    await lab.etcd.put(`${subnetKeys}${name}`, JSON.stringify({ PublicIP: address, PublicIPv6: null }));

  it('counts for what is taken, is found again as the own one, and is nothing to say', async () => {
    await put('10.244.1.0-24', '192.0.2.77');
    await put('10.244.2.0-24', one.ipv4);
    await Promise.all([one.startAgent(healthFlags), two.startAgent()]);
    const held = await keys();
    assert.deepEqual(Object.keys(held).sort(), ['10.244.1.0-24', '10.244.2.0-24', '10.244.3.0-24']);
    for (const [name, address] of [
      ['10.244.2.0-24', one.ipv4],
      ['10.244.3.0-24', two.ipv4],
    ] as const) {
      const value = JSON.parse(held[name]!);
      assert.equal(value.PublicIP, address);
    }
    const { status, text } = await readyz(one);
    assert.equal(status, 200, text);
    assert.doesNotMatch(text, /lease 10/);
    assert.doesNotMatch(await one.exec('ip', ['route']), /10\.244\.[13]\.0/, 'routes are somebody else’s');
    const pod = await one.addPod('pod');
    assert.match(pod.ipv4, /^10\.244\.2\./);
    await pod.remove();
  });

  it('is a lease like others to a node whose backend carries packets: its subnet is taken, no packet goes there', async () => {
    await lab.etcd.put('/coreos.com/network/config', JSON.stringify(threeSubnets));
    await put('10.244.1.0-24', '192.0.2.77');
    await put('10.244.2.0-24', '192.0.2.78');
    await one.startAgent(healthFlags);
    assert.deepEqual(Object.keys(await keys()), ['10.244.1.0-24', '10.244.2.0-24', '10.244.3.0-24']);
    const { status, text } = await readyz(one);
    assert.equal(status, 200, text);
    assert.doesNotMatch(text, /cannot be read|malformed/);
    assert.doesNotMatch(await one.exec('ip', ['route']), /10\.244\.1\.0/);
    await lab.etcd.delete(`${subnetKeys}10.244.1.0-24`);
    await two.startAgent();
    assert.equal(JSON.parse((await keys())['10.244.1.0-24']!).PublicIP, two.ipv4);
  });
});
