import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseAllDocuments } from 'yaml';
import { run } from '../../src/kernel/process.ts';
import { root, twillProgram } from '../lab/files.ts';

/** The names that `twill COMMAND --help` lists, without dashes. */
async function helpFlags(command: string): Promise<Set<string>> {
  const { status, stdout, stderr } = await run(process.execPath, [twillProgram, command, '--help']);
  assert.equal(status, 0, stderr);
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

/** The README's lines that begin with a call of twill, continuation lines joined. */
function readmeCalls(): { command: string; flags: string[] }[] {
  const text = readFileSync(join(root, 'README.md'), 'utf8').replaceAll(/\\\n\s*/g, '');
  return [...text.matchAll(/^(?: {4}|\$ |# )*(?:sudo )?twill ([a-z-]+)(.*)$/gm)].map(([, command, rest]) => ({
    command: command!,
    flags: flagsIn(rest!),
  }));
}

test('every call of twill in the README is one that works: command and flags exist', async () => {
  const calls = readmeCalls();
  assert.ok(calls.length > 0);
  for (const { command, flags } of calls) {
    const known = await helpFlags(command);
    for (const flag of flags) assert.ok(known.has(flag), `twill ${command} --${flag}`);
  }
});

test('every flag in a table of the README exists', async () => {
  const readme = readFileSync(join(root, 'README.md'), 'utf8');
  const tables = [...readme.matchAll(/^### Flags of `twill ([a-z-]+)`\n([^#]*)/gm)];
  assert.ok(tables.length > 0);
  for (const [, command, body] of tables) {
    const known = await helpFlags(command!);
    const rows = [...body!.matchAll(/^\| (.*?) \|/gm)].map((match) => match[1]!).join(' ');
    assert.ok(flagsIn(rows).length > 0);
    for (const flag of flagsIn(rows)) assert.ok(known.has(flag), `twill ${command} --${flag}`);
  }
});
