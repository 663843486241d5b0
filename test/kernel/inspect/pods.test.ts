import assert from 'node:assert/strict';
import { test } from 'node:test';
import { run, runChecked } from '../../../src/kernel/process.ts';
import { withCniNode } from '../../lab/cni-node.ts';
import { twillProgram } from '../../lab/files.ts';

test('twill pods shows what the pods have, as a table and as JSON', async () => {
  await withCniNode(async (node) => {
    const pod = await node.pod();
    const runtimeConfig = { portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }] };
    const environment = { CNI_ARGS: 'IgnoreUnknown=1;K8S_POD_NAMESPACE=web;K8S_POD_NAME=front' };
    const added = await node.call('ADD', { netns: pod.path, config: { runtimeConfig }, environment });
    const args = [twillProgram, 'pods', '--cni-socket', node.socketPath];
    const table = await runChecked(process.execPath, args);
    const veth = added.json.interfaces[1].name;
    assert.match(table, /^POD +CONTAINER +INTERFACE +ADDRESSES +HOST VETH +HOST PORTS +AGE$/m);
    assert.match(
      table,
      new RegExp(`^web/front +c1 +eth0 +10\\.244\\.7\\.2/24 +${veth} +8080->80/tcp +\\d+s$`, 'm'),
    );
    const [record] = JSON.parse(await runChecked(process.execPath, [...args, '-o', 'json']));
    assert.equal(record.containerId, 'c1');
    assert.equal(record.netns, pod.path);
    await node.stopServer();
    const failed = await run(process.execPath, args);
    assert.equal(failed.status, 1);
    assert.match(failed.stderr, new RegExp(`does not answer on ${node.socketPath}`));
  });
});
