import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { runChecked } from '../../../src/kernel/process.ts';
import { addUplink, saidBy } from '../../lab/command.ts';
import { root } from '../../lab/files.ts';
import { makeNamespace, type Namespace } from '../../lab/namespace.ts';

/** Says which modules are loaded when the program ends. */
const tellLoaded = `
  const tell = () => process.stderr.write('LOADED ' + JSON.stringify(Object.keys(require.cache)) + '\\n');
  process.on('exit', tell);`;

describe('what is shipped', () => {
  let folder: string;
  let state: string;
  let namespace: Namespace;

  before(async () => {
    namespace = await makeNamespace('node');
    await addUplink(namespace);
    state = mkdtempSync(join(tmpdir(), 'twill-state-'));
    folder = mkdtempSync(join(tmpdir(), 'twill-ship-'));
    await runChecked(process.execPath, [join(root, 'tools/ship.mjs'), folder]);
  });
  after(async () => {
    await namespace.remove();
    for (const each of [folder, state]) rmSync(each, { recursive: true });
  });

  const said = (args: readonly string[], enough?: RegExp, ...node: string[]): Promise<string> =>
    saidBy(namespace, [...node, join(folder, 'dist/main.js'), ...args], enough);
  const agent = (): string[] => [
    'agent',
    '--healthz-port=0',
    `--state-dir=${state}`,
    `--subnet-file=${join(state, 'subnet.env')}`,
    `--cni-socket=${join(state, 'cni.sock')}`,
    '--etcd-endpoints=http://127.0.0.1:1',
  ];

  it('is enough for every command', async () => {
    await said(agent(), /"serving CNI calls"[\s\S]*will retry/);
    const socket = `--inspect-socket=${join(state, 'proxy.sock')}`;
    await said(['proxy', `--manifests=${state}`, '--log-format=pretty', socket], /proxy starts/);
    const nobody = ['--output=yaml', '--socket=/nobody/agent', '--proxy-socket=/nobody/proxy'];
    const looks = [
      ['status'],
      ['pods'],
      ['routes'],
      ['services'],
      ['diff'],
      ['trace', '127.0.0.1', '127.0.0.1:1'],
    ];
    for (const look of looks) {
      const { stdout, stderr } = await namespace.run(process.execPath, [
        join(folder, 'dist/main.js'),
        ...look,
        ...nobody,
      ]);
      assert.match(stdout + stderr, /does\s+not\s+answer/, look[0]);
    }
    const install = ['install-cni', `--cni-bin-dir=${state}`, `--cni-conf-dir=${state}`];
    assert.doesNotMatch(await said(install), /cannot|Error/);
    assert.ok(readdirSync(state).includes('twill'));
  });

  it('is no more of node_modules than what is loaded, and licences', async () => {
    const hook = join(state, 'hook.cjs');
    await runChecked('sh', ['-c', `cat > "$0"`, hook], { input: tellLoaded });
    const output = await said(agent(), /will retry/, '--require', hook);
    const loaded = JSON.parse(/^LOADED (.*)$/m.exec(output)![1]!) as string[];
    const modules = join(folder, 'node_modules');
    const there = readdirSync(modules, { recursive: true, encoding: 'utf8' }).filter((file) =>
      /\.(js|cjs|node)$/.test(file),
    );
    const used = loaded.map((file) => relative(modules, file)).filter((file) => !/^\.\.|\.json$/.test(file));
    assert.deepEqual(there.sort(), used.sort());
  });

  it('has the licence of every package that is bundled', () => {
    const text = readFileSync(join(folder, 'dist/THIRD-PARTY-LICENSES'), 'utf8');
    for (const name of ['etcd3', '@kubernetes/client-node', 'pino', 'commander', 'ip-num'])
      assert.match(text, new RegExp(`^${name} \\d+\\.\\d+\\.\\d+: \\S+\n\n`, 'm'));
  });

  it('has a list of what is in it, CycloneDX', () => {
    const list = JSON.parse(readFileSync(join(folder, 'dist/sbom.cdx.json'), 'utf8')) as {
      bomFormat: string;
      components: readonly { name: string; version: string; purl: string }[];
    };
    assert.equal(list.bomFormat, 'CycloneDX');
    const bun = `@oven/bun-linux-${process.arch === 'x64' ? 'x64' : 'aarch64'}`;
    for (const name of ['etcd3', 'netlink', 'koffi', '@kubernetes/client-node', bun]) {
      const found = list.components.find((one) => one.name === name);
      assert.equal(found?.purl, `pkg:npm/${name.replace('@', '%40')}@${found?.version}`, name);
    }
  });

  it('is all that the image copies', () => {
    const dockerfile = readFileSync(join(root, 'Dockerfile'), 'utf8');
    assert.match(dockerfile, /node tools\/ship\.mjs \/ship \$\{TARGETARCH\}$/m);
    const image = dockerfile.slice(dockerfile.lastIndexOf('\nFROM '));
    assert.deepEqual(image.match(/^(COPY|ADD) .*$/gm), ['COPY --from=build /ship ./']);
  });
});
