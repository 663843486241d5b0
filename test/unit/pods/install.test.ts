import assert from 'node:assert/strict';
import {
  chmodSync,
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { earlierConfigurations } from '../../../src/pods/cni/configurations.ts';
import { builtinConflist, installCni } from '../../../src/pods/cni/install.ts';
import { PlacedConfiguration } from '../../../src/pods/cni/placed-configuration.ts';
import { makeLog } from '../../../src/process/log.ts';
import { waitFor } from '../../lab/wait.ts';

test('install-cni writes the plugin and the configuration, and nothing when they are as they should be', (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'twill-install-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const executable = join(directory, 'plugin');
  writeFileSync(executable, 'version 1');
  const bin = join(directory, 'bin');
  const conf = join(directory, 'conf');
  const flags = {
    cniBinDir: bin,
    cniConfDir: conf,
    cniConfName: '10-twill.conflist',
    cniExecutable: executable,
    cniSocket: '/run/other.sock',
  };
  installCni(flags);
  assert.equal(readFileSync(join(bin, 'twill'), 'utf8'), 'version 1');
  assert.equal(statSync(join(bin, 'twill')).mode & 0o777, 0o755);
  const conflist = JSON.parse(readFileSync(join(conf, '10-twill.conflist'), 'utf8'));
  assert.equal(conflist.plugins[0].socket, '/run/other.sock');
  const before = [statSync(join(bin, 'twill')), statSync(join(conf, '10-twill.conflist'))];
  installCni(flags);
  const after = [statSync(join(bin, 'twill')), statSync(join(conf, '10-twill.conflist'))];
  assert.deepEqual(
    after.map(({ ino, mtimeMs }) => [ino, mtimeMs]),
    before.map(({ ino, mtimeMs }) => [ino, mtimeMs]),
    'the same files stand',
  );
  chmodSync(join(bin, 'twill'), 0o644);
  chmodSync(join(conf, '10-twill.conflist'), 0o666);
  installCni(flags);
  assert.equal(statSync(join(bin, 'twill')).mode & 0o777, 0o755, 'a plugin that cannot be started is none');
  assert.equal(statSync(join(conf, '10-twill.conflist')).mode & 0o777, 0o600);
  writeFileSync(executable, 'version 2');
  // As long as it is open its number is not given to another file.
  const running = openSync(join(bin, 'twill'), 'r');
  installCni(flags);
  assert.equal(readFileSync(running, 'utf8'), 'version 1', 'a running plugin keeps its file');
  closeSync(running);
  assert.equal(readFileSync(join(bin, 'twill'), 'utf8'), 'version 2');
  assert.deepEqual(readdirSync(bin), ['twill'], 'nothing unfinished is left');
});

test('install-cni refuses a configuration that is not JSON before it touches anything', (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'twill-install-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const conf = join(directory, 'broken');
  writeFileSync(conf, '{');
  const flags = {
    cniBinDir: join(directory, 'bin'),
    cniConfDir: join(directory, 'net.d'),
    cniConfName: '10-twill.conflist',
    cniConf: conf,
    cniSocket: '/run/twill/cni.sock',
  };
  assert.throws(() => installCni(flags), /broken is not JSON/);
  assert.equal(existsSync(join(directory, 'bin')), false);
});

test('install-cni refuses what no runtime would read under its name', (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'twill-install-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const plugin = { type: 'twill' };
  const single = { cniVersion: '1.0.0', name: 'net', ...plugin };
  const list = { cniVersion: '1.0.0', name: 'net', plugins: [plugin] };
  const cases: readonly [config: object | undefined, cniConfName: string, refusal: RegExp | undefined][] = [
    [single, '10-twill.conflist', /given: it has no list of plugins.*10-twill\.conflist.*"plugins"/],
    [{ ...single, plugins: [] }, '10-twill.conflist', /it has no list of plugins/],
    [list, '10-twill.conf', /it has a list of plugins.*not from 10-twill\.conf/],
    [{ ...single, type: '' }, '10-twill.conf', /a plugin in it has no type/],
    [{ ...list, plugins: [plugin, {}] }, '10-twill.conflist', /a plugin in it has no type/],
    [{ plugins: [plugin] }, '10-twill.conflist', /it has no name/],
    [
      list,
      '10-twill',
      /--cni-conf-name 10-twill: a runtime reads files that end in \.conflist, \.conf or \.json/,
    ],
    [list, '../10-twill.conflist', /--cni-conf-name/],
    [undefined, '10-twill.conf', /--cni-conf-name 10-twill\.conf: .*\.conflist, for the built-in/],
    [single, '10-twill.conf', undefined],
    [single, '10-twill.json', undefined],
    [{ Name: 'net', Plugins: [{ Type: 'twill' }] }, '10-twill.conflist', undefined],
  ];
  const executable = join(directory, 'plugin');
  writeFileSync(executable, 'version 1');
  for (const [at, [config, cniConfName, refusal]] of cases.entries()) {
    const given = join(directory, 'given');
    if (config !== undefined) writeFileSync(given, JSON.stringify(config));
    const [cniBinDir, cniConfDir] = [join(directory, `bin${at}`), join(directory, `net.d${at}`)];
    const own = {
      cniBinDir,
      cniConfDir,
      cniConfName,
      cniExecutable: executable,
      cniSocket: '/run/twill/cni.sock',
    };
    const install = (): void => installCni({ ...own, ...(config === undefined ? {} : { cniConf: given }) });
    if (refusal === undefined) assert.doesNotThrow(install);
    else assert.throws(install, refusal);
    assert.equal(existsSync(cniBinDir), refusal === undefined, `${at}`);
    assert.equal(existsSync(join(cniConfDir, cniConfName)), refusal === undefined);
  }
});

test('the agent places no configuration under a name of which runtimes read nothing, and says what to change', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'twill-install-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const list = { cniVersion: '1.0.0', name: 'net', plugins: [{ type: 'twill' }] };
  const cases: readonly [name: string, config: object, refusal: RegExp | undefined][] = [
    ['10-twill.yaml', list, /runtimes read no 10-twill\.yaml: have its name end in \.conflist, /],
    ['10-twill.conflist', { name: 'net', type: 'twill' }, /"plugins", or have its name end in \.conf$/],
    ['10-twill.conflist', list, undefined],
  ];
  for (const [name, config, refusal] of cases) {
    const source = join(directory, name);
    writeFileSync(source, JSON.stringify(config));
    const placed = join(directory, 'net.d');
    const log = makeLog({ level: 'fatal', format: 'json', name: 'test' });
    const { loop } = new PlacedConfiguration({ source, directory: placed, ready: () => true, log });
    try {
      loop.trigger('test');
      await waitFor('a look', () => loop.status().lastError !== undefined || existsSync(join(placed, name)));
      if (refusal === undefined) assert.ok(existsSync(join(placed, name)));
      else {
        assert.match(loop.status().lastError ?? '', refusal);
        assert.equal(existsSync(placed), false);
      }
    } finally {
      await loop.stop();
    }
  }
});

test('a configuration that sorts before ours is found', (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'twill-install-'));
  t.after(() => rmSync(directory, { recursive: true }));
  for (const name of ['05-cilium.conflist', '10-twill.conflist', '87-podman.conflist', '00-notes.txt'])
    writeFileSync(join(directory, name), name);
  mkdirSync(join(directory, '04-old.conf')); // runtimes pass over folders
  assert.deepEqual(earlierConfigurations(directory), ['05-cilium.conflist']);
  writeFileSync(join(directory, '00-multus.conf'), '{"type":"multus","clusterNetwork":"twill"}');
  assert.deepEqual(earlierConfigurations(directory), [], 'a meta plugin that calls Twill is no other');
  rmSync(join(directory, '00-multus.conf'));
  rmSync(join(directory, '10-twill.conflist'));
  assert.deepEqual(
    earlierConfigurations(directory),
    [],
    'where there is none of ours, nothing is to be said',
  );
});

test('--replace sets aside what sorts first, and --restore puts it back', (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'twill-install-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const executable = join(directory, 'plugin');
  writeFileSync(executable, 'version 1');
  const conf = join(directory, 'net.d');
  const flags = {
    cniBinDir: join(directory, 'bin'),
    cniConfDir: conf,
    cniConfName: '10-twill.conflist',
    cniExecutable: executable,
    cniSocket: '/run/twill/cni.sock',
  };
  installCni(flags);
  writeFileSync(join(conf, '10-flannel.conflist'), 'flannel');
  writeFileSync(join(conf, '87-podman.conflist'), 'podman');
  installCni(flags);
  assert.deepEqual(earlierConfigurations(conf), ['10-flannel.conflist'], 'not without being asked');
  installCni({ ...flags, replace: true });
  assert.deepEqual(earlierConfigurations(conf), []);
  const aside = '10-flannel.conflist.set-aside-by-twill';
  assert.deepEqual(readdirSync(conf).sort(), [aside, '10-twill.conflist', '87-podman.conflist']);
  installCni({ ...flags, replace: true });
  assert.equal(readFileSync(join(conf, aside), 'utf8'), 'flannel', 'twice is as once');
  installCni({ ...flags, restore: true });
  assert.deepEqual(readdirSync(conf).sort(), ['10-flannel.conflist', '87-podman.conflist']);
  assert.equal(readFileSync(join(conf, '10-flannel.conflist'), 'utf8'), 'flannel');
  installCni({ ...flags, restore: true });
  assert.deepEqual(readdirSync(conf).sort(), ['10-flannel.conflist', '87-podman.conflist']);
});

test('the built-in configuration asks for the capabilities and leaves the default socket out', () => {
  const conflist = JSON.parse(builtinConflist('/run/twill/cni.sock'));
  assert.deepEqual(conflist.plugins, [
    { type: 'twill', capabilities: { portMappings: true, bandwidth: true, ips: true } },
  ]);
});
