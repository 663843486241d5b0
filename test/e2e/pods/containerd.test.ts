import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { test } from 'node:test';
import { type Container, Containerd } from '../../lab/containerd.ts';
import { type Lab, withLab } from '../../lab/lab.ts';
import type { LabNode } from '../../lab/node.ts';

async function veths(node: LabNode): Promise<string[]> {
  const links = JSON.parse(await node.exec('ip', ['-json', 'link', 'show', 'type', 'veth'])) as {
    ifname: string;
    master?: string;
  }[];
  return links.filter((link) => link.master !== undefined).map((link) => link.ifname);
}

async function get(lab: Lab, from: Container, address: string): Promise<string> {
  return await lab.waitFor(`${from.id} to fetch from ${address}`, async () => {
    // busybox's wget looks up names through libraries that the container does not have.
    const request = `printf 'GET / HTTP/1.0\\r\\n\\r\\n' | busybox nc -w 2 ${address} 8080`;
    const result = await from.exec('sh', '-c', request);
    assert.equal(result.status, 0, result.stderr);
    // Empty when nc saw its own input end before the answer came.
    return result.stdout.trim().split('\n').at(-1) || undefined;
  });
}

test('containerd runs containers on two nodes with the CNI executable, and they reach each other', async () => {
  await withLab({ nodes: 2 }, async (lab) => {
    await Promise.all(lab.nodes.map((node) => node.startAgent()));
    const runtimes = await Promise.all(lab.nodes.map((node) => Containerd.start(node)));
    const containers = runtimes.map((runtime, index) =>
      runtime.run(`web${index + 1}`, 'httpd', '-f', '-p', '8080', '-h', '/www'),
    ) as [Container, Container];
    const addresses = await Promise.all(containers.map((container) => container.ipv4()));
    assert.equal(await get(lab, containers[0], addresses[1]!), 'node2');
    assert.equal(await get(lab, containers[1], addresses[0]!), 'node1');
    for (const node of lab.nodes) assert.equal((await veths(node)).length, 1);
    await Promise.all(containers.map((container) => container.remove()));
    for (const node of lab.nodes) {
      await lab.waitFor('the container’s link to go', async () => (await veths(node)).length === 0);
      assert.deepEqual(
        readdirSync(node.stateDir, { recursive: true, encoding: 'utf8' }).filter((file) =>
          file.includes('web'),
        ),
        [],
      );
    }
  });
});
