import assert from 'node:assert/strict';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { it } from 'node:test';
import { podSubnets, withLab } from '../../lab/lab.ts';

const networkConfig = { ...podSubnets, EnableNFTables: true, Backend: { Type: 'vxlan' } };

it('a flushed ruleset is put right, and iptables rules of before are taken away', async () => {
  await withLab({ nodes: 1, underlay: 'ipv4', networkConfig }, async (lab) => {
    const node = lab.nodes[0]!;
    await node.exec('iptables', ['-t', 'nat', '-N', 'FLANNEL-POSTRTG']);
    await node.exec('iptables', ['-t', 'nat', '-A', 'POSTROUTING', '-j', 'FLANNEL-POSTRTG']);
    await node.startAgent(['--iptables-resync=1']);
    const table = async (): Promise<string> =>
      (await node.namespace.run('nft', ['list', 'table', 'ip', 'flannel-ipv4'])).stdout;
    const before = await lab.waitFor('the table', async () => {
      const text = await table();
      return text.includes('masquerade') && text;
    });
    await lab.waitFor(
      'the iptables rules to go',
      async () => !(await node.exec('iptables', ['-t', 'nat', '-S'])).includes('FLANNEL'),
    );
    await node.exec('nft', ['flush', 'ruleset']);
    await lab.waitFor('the table again', async () => (await table()) === before);
    await node.exec('nft', ['flush', 'chain', 'ip', 'flannel-ipv4', 'postrtg']);
    await lab.waitFor('the rules again', async () => (await table()) === before);
  });
});

it('what another nft prints otherwise is not written again; what somebody changed at once is', async () => {
  await withLab({ nodes: 1, underlay: 'ipv4', networkConfig }, async (lab) => {
    const node = lab.nodes[0]!;
    const real = (await node.exec('sh', ['-c', 'command -v nft'])).trim();
    const disturb = join(node.programs, 'disturb');
    mkdirSync(node.programs);
    const script = `#!/bin/sh
      if [ "$1" != -f ]; then ${real} "$@" | sed 's/fully-random/random,fully/'; exit; fi
      ${real} "$@" || exit
      if [ -e ${disturb} ]; then ${real} flush chain ip flannel-ipv4 postrtg; rm ${disturb}; fi\n`;
    writeFileSync(join(node.programs, 'nft'), script, { mode: 0o755 });
    await node.startAgent(['--iptables-resync=1', '--log-level=debug']);
    const table = async (): Promise<string> =>
      (await node.namespace.run(real, ['list', 'table', 'ip', 'flannel-ipv4'])).stdout;
    const writes = (): number => node.agent!.log().split('put rules right').length;
    const looks = (): number => node.agent!.log().split('looked at the rules').length;
    await lab.waitFor('the table', async () => (await table()).includes('masquerade'));
    await lab.waitFor('a look', () => /looked at the rules .*wrote=false/.test(node.agent!.log()));
    const [right, written] = [await table(), writes()];
    for (let time = 0; time < 2; time++) {
      const before = looks();
      await node.exec(real, [time === 0 ? 'add' : 'delete', 'table', 'ip', 'somebodys']);
      await lab.waitFor('a look', () => looks() > before);
    }
    assert.equal(writes(), written);
    writeFileSync(disturb, '');
    await node.exec(real, ['flush', 'ruleset']);
    await lab.waitFor('the agent to have been disturbed', () => !existsSync(disturb));
    await lab.waitFor('the table again', async () => (await table()) === right);
  });
});
