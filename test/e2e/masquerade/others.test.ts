// Rules of pods' traffic where others have written to the same tables, with another program or in another way.
import assert from 'node:assert/strict';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { it } from 'node:test';
import { withLab } from '../../lab/lab.ts';
import type { LabNode } from '../../lab/node.ts';
import { healthFlags, readyz } from '../agent/readiness.ts';

/** What a flanneld with the other iptables leaves: its subnet was another. */
const oldFlannels = `*nat
:FLANNEL-POSTRTG - [0:0]
-A POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG
-A FLANNEL-POSTRTG -s 10.244.200.0/24 -d 10.244.0.0/16 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s 10.244.0.0/16 ! -d 224.0.0.0/4 -m comment --comment "flanneld masq" -j MASQUERADE
COMMIT
*filter
:FLANNEL-FWD - [0:0]
-A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD
-A FORWARD -s 192.0.2.77/32 -j DROP
-A FLANNEL-FWD -s 10.244.0.0/16 -j ACCEPT
COMMIT
`;

const saved = (node: LabNode, variant: string): Promise<string> => node.exec(`iptables-${variant}-save`, []);

for (const [used, other] of [
  ['nft', 'legacy'],
  ['legacy', 'nft'],
] as const)
  it(`what flannel left in iptables-${other} goes, and nothing else, where the node uses iptables-${used}`, async () => {
    await withLab({ nodes: 1, underlay: 'ipv4' }, async (lab) => {
      const node = lab.nodes[0]!;
      await node.exec(`iptables-${other}-restore`, ['--noflush'], { input: oldFlannels });
      const kubelets = '*mangle\n:KUBE-IPTABLES-HINT - [0:0]\nCOMMIT\n';
      await node.exec(`iptables-${used}-restore`, ['--noflush'], { input: kubelets });
      await node.startAgent();
      await lab.waitFor('our rules', async () => (await saved(node, used)).includes('-j FLANNEL-FWD'));
      await lab.waitFor('the others to go', async () => !(await saved(node, other)).includes('FLANNEL'));
      assert.match(await saved(node, other), /-A FORWARD -s 192\.0\.2\.77\/32 -j DROP/);
      assert.match(await saved(node, used), /-A POSTROUTING .*-j FLANNEL-POSTRTG/);
    });
  });

it('what flannel left in iptables-legacy and cannot go for the moment is named, and goes later', async () => {
  await withLab({ nodes: 1, underlay: 'ipv4' }, async (lab) => {
    const node = lab.nodes[0]!;
    await node.exec('iptables-legacy-restore', ['--noflush'], { input: oldFlannels });
    await node.exec('iptables-nft', ['-t', 'mangle', '-N', 'KUBE-IPTABLES-HINT']);
    const failing = join(node.programs, 'failing');
    mkdirSync(node.programs);
    writeFileSync(failing, '');
    writeFileSync(
      join(node.programs, 'iptables-legacy'),
      `#!/bin/sh\n[ -e ${failing} ] || exec /usr/sbin/iptables-legacy "$@"\necho "can't initialize iptables table: Memory allocation problem." >&2\nexit 3\n`,
      { mode: 0o755 },
    );
    await node.startAgent();
    await lab.waitFor('word of it', () =>
      /rules cannot be removed[^\n]*iptables-legacy|iptables-legacy[^\n]*rules cannot be removed/.test(
        node.agent!.log(),
      ),
    );
    assert.match(await saved(node, 'legacy'), /FLANNEL-POSTRTG/);
    rmSync(failing);
    await lab.waitFor('the others to go', async () => {
      // Rules are looked at when somebody has written some.
      await node.exec('iptables-nft', ['-F', 'FLANNEL-FWD']);
      return !(await saved(node, 'legacy')).includes('FLANNEL');
    });
    assert.match(await saved(node, 'legacy'), /-A FORWARD -s 192\.0\.2\.77\/32 -j DROP/);
  });
});

it('a chain of table nat that is not as iptables makes it: said with what to do, and table filter has its rules', async () => {
  await withLab({ nodes: 1, underlay: 'ipv4' }, async (lab) => {
    const node = lab.nodes[0]!;
    const document = `add table ip nat
add chain ip nat POSTROUTING { type nat hook postrouting priority 110; policy accept; }
`;
    await node.exec('nft', ['-f', '-'], { input: document });
    await node.startAgent(healthFlags);
    await lab.waitFor('the rules of table filter', async () =>
      (await saved(node, 'nft')).includes(
        '-A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD',
      ),
    );
    // What cannot be had makes nothing else new each time.
    await node.exec('iptables-nft', ['-F', 'FLANNEL-FWD']);
    await lab.waitFor('the repair to be named', () =>
      /FLANNEL-FWD.*put rules right|put rules right.*FLANNEL-FWD/.test(node.agent!.log()),
    );
    const { status, text } = await readyz(node);
    assert.equal(status, 503);
    assert.match(
      text,
      /\[-\] masquerade: .*a chain POSTROUTING of another type, hook or priority .*'nft list chains ip'/,
    );
    await node.exec('nft', ['delete', 'chain', 'ip', 'nat', 'POSTROUTING']);
    await lab.waitFor('all to be well', async () => (await readyz(node)).status === 200);
    assert.match(await saved(node, 'nft'), /-A POSTROUTING .*-j FLANNEL-POSTRTG/);
  });
});
