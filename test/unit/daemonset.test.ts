import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseAllDocuments } from 'yaml';
import { root } from '../lab/files.ts';
import { flagsIn, helpFlags } from '../lab/help.ts';

interface Container {
  readonly name: string;
  readonly args?: readonly string[];
  readonly volumeMounts?: readonly { name: string }[];
}

interface PodSpec {
  readonly containers: readonly Container[];
  readonly initContainers?: readonly Container[];
  readonly volumes: readonly { name: string }[];
}

interface Document {
  readonly kind: string;
  readonly metadata: { name: string };
  readonly data?: Record<string, string>;
  readonly spec?: { template: { spec: PodSpec } };
}

function documents(): Document[] {
  const parsed = parseAllDocuments(readFileSync(join(root, 'daemonset.yaml'), 'utf8'));
  for (const document of parsed) assert.deepEqual(document.errors, []);
  return parsed.map((document) => document.toJS() as Document);
}

test('daemonset.yaml parses, and calls every command with flags that it has', async () => {
  const sets = documents().filter((document) => document.kind === 'DaemonSet');
  assert.deepEqual(
    sets.map((set) => set.metadata.name),
    ['twill-agent', 'twill-proxy'],
  );
  for (const set of sets) {
    const { containers, initContainers = [], volumes } = set.spec!.template.spec;
    const mounted = [...containers, ...initContainers].flatMap(({ volumeMounts = [] }) =>
      volumeMounts.map((mount) => mount.name),
    );
    assert.deepEqual([...new Set(mounted)].sort(), volumes.map((volume) => volume.name).sort());
    for (const { args = [] } of [...initContainers, ...containers]) {
      const known = await helpFlags(args[0]!);
      for (const flag of flagsIn(args.slice(1).join(' ')))
        assert.ok(known.has(flag), `twill ${args[0]} --${flag}`);
    }
  }
});

test('the files in daemonset.yaml’s ConfigMap are valid', () => {
  const { data } = documents().find((document) => document.kind === 'ConfigMap')!;
  const list = JSON.parse(data!['10-twill.conflist']!) as { plugins: { type: string }[] };
  assert.equal(list.plugins[0]!.type, 'twill');
  const network = JSON.parse(data!['net-conf.json']!) as { Network: string };
  assert.match(network.Network, /^10\.244\.0\.0\/16$/);
});

test('the proxy’s --cluster-cidr in daemonset.yaml is the pod network of its ConfigMap', () => {
  const all = documents();
  const { data } = all.find((document) => document.kind === 'ConfigMap')!;
  const { Network } = JSON.parse(data!['net-conf.json']!) as { Network: string };
  const proxy = all.find((document) => document.metadata.name === 'twill-proxy')!;
  assert.ok(proxy.spec!.template.spec.containers[0]!.args!.includes(`--cluster-cidr=${Network}`));
});
