// Without --ip-masq flannel's chain makes the bridge plugin masquerade: a pod's way to the outside must work as it did.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { withLab } from '../../lab/lab.ts';

test('without --ip-masq pods reach the outside under their node’s address, unless ipMasq is false', async () => {
  await withLab({ nodes: 2 }, async (lab) => {
    for (const node of lab.nodes) await node.startAgent(['--ip-masq=false']);
    const [node, other] = [lab.nodes[0]!, lab.nodes[1]!];
    const saved = (): Promise<string> => node.exec('iptables-nft-save', ['-t', 'nat']);
    assert.doesNotMatch(await saved(), /MASQUERADE/, 'nothing before there are pods');
    const pod = await node.addPod('pod', { delegate: { isDefaultGateway: true } });
    const bare = await node.addPod('bare', { ipMasq: false });
    const far = await other.addPod('far');
    await Promise.all([lab.client.serve(), far.serve(), pod.serve()]);
    const ask = (from: typeof pod, address: string) =>
      from.probe.ask({ protocol: 'tcp', address, port: 8080 });
    assert.deepEqual(await ask(pod, lab.client.ipv4), { server: 'client', client: node.ipv4 });
    assert.deepEqual(await ask(pod, far.ipv4), { server: 'far', client: pod.ipv4 }, 'its own among pods');
    assert.deepEqual(await ask(far, pod.ipv4), { server: 'pod', client: far.ipv4 });
    assert.match(await saved(), new RegExp(`-s ${bare.ipv4}/32 .*-j RETURN`));
    await bare.remove();
    await lab.waitFor('the exception to go', async () => !(await saved()).includes(bare.ipv4));
    await node.agent!.kill();
    await node.startAgent(['--ip-masq=false']);
    assert.deepEqual(await ask(pod, lab.client.ipv4), { server: 'client', client: node.ipv4 });
  });
});
