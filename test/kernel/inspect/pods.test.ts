import assert from 'node:assert/strict';
import { test } from 'node:test';
import { run, runChecked } from '../../../src/kernel/process.ts';
import { withCniNode } from '../../lab/cni-node.ts';
import { twillProgram } from '../../lab/files.ts';

test('twill pods shows what the pods have, as a table, as JSON and as YAML, also while the agent is away', async () => {
  await withCniNode(async (node) => {
    const pod = await node.pod();
    const runtimeConfig = {
      portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }],
      bandwidth: { ingressRate: 8_000_000, ingressBurst: 8_000_000 },
    };
    const environment = { CNI_ARGS: 'IgnoreUnknown=1;K8S_POD_NAMESPACE=web;K8S_POD_NAME=front' };
    const config = { runtimeConfig, portIsolation: true };
    const added = await node.call('ADD', { netns: pod.path, config, environment });
    assert.equal(added.status, 0, added.stdout);
    const args = [twillProgram, 'pods', '--socket', node.socketPath];
    const ask = (...more: string[]): Promise<string> =>
      node.namespace.exec(process.execPath, [...args, ...more]);
    const table = await ask();
    const veth = added.json.interfaces[1].name;
    assert.match(table, /^POD +ADDRESSES +MAC +HOST VETH +AGE +NOTES$/m);
    assert.match(
      table,
      new RegExp(
        `^web/front +10\\.244\\.7\\.2 +[0-9a-f:]{17} +${veth} +\\d+s +container c1; host ports$`,
        'm',
      ),
    );
    assert.match(table.replaceAll(/\n +/g, ' '), /host ports 8080->80\/tcp; in at most 8 Mbit\/s/);
    for (const line of table.split('\n')) assert.ok(line.length <= 100, line);
    const { version, agentAway, pods } = JSON.parse(await ask('-o', 'json'));
    assert.equal(version, 1);
    assert.equal(agentAway, undefined);
    assert.equal(pods[0].containerId, 'c1');
    assert.equal(pods[0].netns, pod.path);
    assert.deepEqual(pods[0].troubles, []);
    assert.match(await ask('-o', 'yaml'), /^version: 1\npods:\n {2}- network: /);
    await node.stopServer();
    const away = await node.namespace.run(process.execPath, args);
    assert.equal(away.status, 0, away.stderr);
    assert.match(away.stdout, /^the Twill agent does not answer on .*: from its records$/m);
    for (const [damage, trouble] of [
      ['type bridge_slave isolated off', 'is not isolated from other ports'],
      ['nomaster', 'is no port of the bridge cni0'],
    ] as const) {
      await node.namespace.ip(`link set ${veth} ${damage}`);
      const broken = await node.namespace.run(process.execPath, [...args, '-o', 'json']);
      assert.equal(broken.status, 1, broken.stdout);
      const [{ troubles }] = JSON.parse(broken.stdout).pods;
      assert.deepEqual(troubles, [`its device ${veth} ${trouble}`]);
    }
  });
});

test('twill pods says where it looked in vain', async () => {
  const socket = '/nonexistent/cni.sock';
  const failed = await run(process.execPath, [twillProgram, 'pods', '--socket', socket]);
  assert.equal(failed.status, 3);
  assert.match(
    failed.stderr,
    /does not answer on \/nonexistent\/cni\.sock.*, and there are no records of pods in \/nonexistent$/m,
  );
  const wrong = await run(process.execPath, [twillProgram, 'pods', '-o', 'xml']);
  assert.equal(wrong.status, 3);
  assert.match(await runChecked(process.execPath, [twillProgram, 'pods', '--help']), /Exit status: 0 /);
});
