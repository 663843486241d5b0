import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { RunResult } from '../../../src/kernel/process.ts';
import { families } from '../../../src/model/address.ts';
import { twillProgram } from '../../lab/files.ts';
import { type Namespace, withNamespace } from '../../lab/namespace.ts';

function cleanup(namespace: Namespace): Promise<RunResult> {
  // An agent was here.
  mkdirSync(join(namespace.directory, 'state/pods'), { recursive: true });
  const places = Object.entries({
    'state-dir': 'state',
    'cni-socket': 'cni.sock',
    'proxy-socket': 'proxy.sock',
    'subnet-file': 'subnet.env',
    'cni-bin-dir': 'cni-bin',
    'cni-conf-dir': 'cni-conf',
  }).map(([flag, name]) => `--${flag}=${join(namespace.directory, name)}`);
  return namespace.run(twillProgram, ['cleanup', ...places]);
}

/** Rules of all three wings, in chains of both tables. */
const ours = {
  filter: [
    ':KUBE-FIREWALL - [0:0]',
    ':KUBE-FORWARD - [0:0]',
    ':FLANNEL-FWD - [0:0]',
    '-A INPUT -j KUBE-FIREWALL',
    '-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD',
    '-A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD',
  ],
  nat: [
    ':KUBE-SERVICES - [0:0]',
    ':CNI-HOSTPORT-DNAT - [0:0]',
    ':CNI-HOSTPORT-TWILL - [0:0]',
    '-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
    '-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT',
    '-A CNI-HOSTPORT-DNAT -j CNI-HOSTPORT-TWILL',
  ],
};

async function write(namespace: Namespace): Promise<void> {
  const document = Object.entries(ours)
    .map(([table, lines]) => [`*${table}`, ...lines, 'COMMIT', ''].join('\n'))
    .join('');
  for (const { iptables } of families)
    await namespace.exec(`${iptables}-nft-restore`, ['--noflush'], { input: document });
}

/** Puts a rule into a chain of both families that iptables-nft cannot print. */
async function spoil(namespace: Namespace, table: string, chain: string): Promise<void> {
  for (const { nft } of families)
    await namespace.exec('nft', ['add', 'rule', nft, table, chain, 'ct', 'count', 'over', '1000', 'counter']);
}

const chainsOf = (ruleset: string): string[] =>
  Array.from(ruleset.matchAll(/chain ((?:KUBE|CNI|FLANNEL)\S+)/g), ([, name]) => name!);

test('rules of somebody’s that iptables-nft cannot print keep nothing of ours from going, and stay', () =>
  withNamespace('unread', async (namespace) => {
    await write(namespace);
    await spoil(namespace, 'filter', 'INPUT');
    await spoil(namespace, 'nat', 'PREROUTING');
    const { status, stdout, stderr } = await cleanup(namespace);
    assert.equal(status, 0, stdout + stderr);
    const ruleset = await namespace.exec('nft', ['list', 'ruleset']);
    assert.deepEqual(chainsOf(ruleset), []);
    assert.equal(ruleset.match(/ct count over 1000/g)?.length, 4);
  }));

test('one in a chain of the portmap plugin leaves that chain standing', () =>
  withNamespace('unread', async (namespace) => {
    await write(namespace);
    await spoil(namespace, 'nat', 'CNI-HOSTPORT-DNAT');
    const { status, stdout, stderr } = await cleanup(namespace);
    assert.equal(status, 0, stdout + stderr);
    const ruleset = await namespace.exec('nft', ['list', 'ruleset']);
    assert.deepEqual(chainsOf(ruleset), ['CNI-HOSTPORT-DNAT', 'CNI-HOSTPORT-DNAT']);
    assert.equal(ruleset.match(/ct count over 1000/g)?.length, 2);
  }));

test('what cannot be looked at is named in the end, and all else goes', () =>
  withNamespace('unread', async (namespace) => {
    await write(namespace);
    await namespace.exec('iptables-nft', ['-N', 'KUBE-LOCALNET']);
    await spoil(namespace, 'filter', 'INPUT');
    await namespace.exec('nft', ['add', 'rule', 'ip', 'filter', 'KUBE-LOCALNET', 'ct', 'count', 'over', '9']);
    await namespace.exec('ip', ['link', 'add', 'flannel.1', 'type', 'vxlan', 'id', '1', 'dstport', '8472']);
    const { status, stderr } = await cleanup(namespace);
    assert.equal(status, 1);
    assert.match(stderr, /not done: .*KUBE-LOCALNET/);
    assert.doesNotMatch(await namespace.exec('ip', ['link']), /flannel\.1/);
    assert.doesNotMatch(await namespace.exec('nft', ['list', 'ruleset']), /FLANNEL-FWD|CNI-HOSTPORT/);
  }));
