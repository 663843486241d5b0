import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { it } from 'node:test';
import { withLab } from '../../lab/lab.ts';
import { healthFlags, readyz } from './readiness.ts';

it('a br_netfilter that is missing is in the readiness, with what to do, and keeps nobody from being ready', async () => {
  await withLab({ nodes: 1, underlay: 'ipv4' }, async (lab) => {
    const node = lab.nodes[0]!;
    const empty = join(node.dir, 'empty');
    mkdirSync(empty);
    // The module may be loaded on this machine: then the agent sees a kernel without.
    const hide = `[ ! -d /proc/sys/net/bridge ] || mount --bind ${empty} /proc/sys/net/bridge; exec "$@"`;
    node.prefix = ['unshare', '--mount', '--propagation', 'slave', 'sh', '-c', hide, 'sh'];
    await node.startAgent(healthFlags);
    const { text } = await lab.waitFor('the agent to be ready', async () => {
      const answer = await readyz(node);
      return answer.status === 200 && answer;
    });
    const line = /^\[!\] bridge netfilter: (.*)$/m.exec(text)?.[1] ?? text;
    assert.match(line, /br_netfilter is not loaded, so a pod does not reach a ClusterIP .*own node/);
    assert.match(line, /modprobe br_netfilter.*\/etc\/modules-load\.d/);
  });
});
