import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { leavesNetworkOpen, withClusterNetworks } from '../../src/leases/plan/cluster-network.ts';
import { parseNetworkConfig } from '../../src/leases/plan/network-config.ts';
import { root } from '../lab/files.ts';
import { flagsIn, helpFlags } from '../lab/help.ts';
import { type Manifest, readManifests } from '../lab/manifests.ts';

const documents = (): Manifest[] => readManifests('daemonset.yaml');

test('daemonset.yaml parses, and calls every command with flags that it has', async () => {
  const sets = documents().filter((document) => document.kind === 'DaemonSet');
  assert.deepEqual(
    sets.map((set) => set.metadata.name),
    ['twill-agent', 'twill-proxy'],
  );
  for (const set of sets) {
    const { containers, initContainers = [], volumes } = set.spec!.template!.spec;
    const mounted = [...containers, ...initContainers].flatMap(({ volumeMounts = [] }) =>
      volumeMounts.map((mount) => mount.name),
    );
    assert.deepEqual([...new Set(mounted)].sort(), volumes.map((volume) => volume.name).sort());
    for (const { command, args = [] } of [...initContainers, ...containers]) {
      if (command !== undefined) continue;
      const known = await helpFlags(args[0]!);
      for (const flag of flagsIn(args.slice(1).join(' ')))
        assert.ok(known.has(flag), `twill ${args[0]} --${flag}`);
    }
  }
});

test('daemonset.yaml says at how many places the image’s name stands', () => {
  const text = readFileSync(join(root, 'daemonset.yaml'), 'utf8');
  const words = ['no', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine', 'ten'];
  const [, said] = /the image's name, .*\((\w+) places\)/.exec(text) ?? [];
  assert.equal(said, words[text.match(/ image: twill:/g)!.length]);
});

test('the files in daemonset.yaml’s ConfigMap are valid', () => {
  const { data } = documents().find((document) => document.kind === 'ConfigMap')!;
  const list = JSON.parse(data!['10-twill.conflist']!) as { plugins: { type: string }[] };
  assert.equal(list.plugins[0]!.type, 'twill');
  assert.ok(leavesNetworkOpen(data!['net-conf.json']!));
  const network = parseNetworkConfig(withClusterNetworks(data!['net-conf.json']!, ['10.244.0.0/16']), false);
  assert.equal(network.backend.type, 'vxlan');
});

test('no container of daemonset.yaml is privileged, sees the node’s processes, or may write to its own files', () => {
  for (const set of documents().filter(({ kind }) => kind === 'DaemonSet')) {
    const { hostPID, containers, initContainers = [] } = set.spec!.template!.spec;
    assert.equal(hostPID, undefined);
    for (const { name, securityContext } of [...initContainers, ...containers]) {
      assert.equal(securityContext?.privileged, undefined, name);
      assert.equal(securityContext?.readOnlyRootFilesystem, true, name);
      assert.deepEqual(securityContext?.capabilities?.drop, ['ALL'], name);
      // The API refuses to have it false beside SYS_ADMIN.
      const administers = securityContext?.capabilities?.add?.includes('SYS_ADMIN') === true;
      assert.equal(securityContext?.allowPrivilegeEscalation, administers ? undefined : false, name);
    }
  }
});
