import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseAllDocuments } from 'yaml';
import { run } from '../../src/kernel/process.ts';
import { root, twillProgram } from '../lab/files.ts';

const commands = ['agent', 'proxy'] as const;

/** The names that `twill COMMAND --help` lists, without dashes. */
async function helpFlags(command: string): Promise<Set<string>> {
  const { stdout } = await run(process.execPath, [twillProgram, command, '--help']);
  return new Set([...stdout.matchAll(/^ +(?:-\w, )?--([a-z0-9-]+)/gm)].map((match) => match[1]!));
}

function flagsIn(text: string): string[] {
  return [...text.matchAll(/(?<![\w-])--([a-z][a-z0-9-]+)/g)].map((match) => match[1]!);
}

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
    for (const { args = [] } of containers) {
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

test('every twill flag that the README mentions exists', async () => {
  const known = new Set((await Promise.all(commands.map(helpFlags))).flatMap((flags) => [...flags]));
  const readme = readFileSync(join(root, 'README.md'), 'utf8');
  const twillLines = readme.split('\n').filter((line) => /\btwill (agent|proxy)\b|^\| `--/.test(line));
  assert.ok(twillLines.length > 0);
  for (const flag of flagsIn(twillLines.join('\n'))) assert.ok(known.has(flag), `--${flag}`);
});
