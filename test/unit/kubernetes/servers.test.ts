import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { findApiServer, kubeletPlaces } from '../../../src/kubernetes/find-server.ts';
import { distinctServers, kubeletServers, serverOfKubeconfig } from '../../../src/kubernetes/servers.ts';

const cluster = (name: string, server: string): object => ({ name, cluster: { server } });
const config = (clusters: readonly object[], current?: string): string =>
  JSON.stringify({
    clusters,
    contexts: [{ name: 'x', context: { cluster: current, user: 'u' } }],
    'current-context': 'x',
    users: [{ name: 'u', user: { token: 'secret' } }],
  });

describe('the API server of a kubelet', () => {
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'twill-kubelet-'));
  });
  after(() => rmSync(folder, { recursive: true }));

  const write = (path: string, text: string): string => {
    const file = join(folder, path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, text);
    return file;
  };

  it('is that of the current context, or of the only cluster', () => {
    const two = [cluster('a', 'https://192.0.2.1:6443'), cluster('b', 'https://[2001:db8::1]:6443/')];
    assert.deepEqual(serverOfKubeconfig(config(two, 'b')), { name: 'b', url: 'https://[2001:db8::1]:6443' });
    assert.equal(serverOfKubeconfig(config(two.slice(0, 1), 'gone'))?.url, 'https://192.0.2.1:6443');
    assert.equal(serverOfKubeconfig(config([])), undefined);
  });

  for (const [what, text] of [
    [
      'several clusters and none current',
      config([cluster('a', 'https://a'), cluster('b', 'https://b')], 'c'),
    ],
    ['no server', config([{ name: 'a', cluster: {} }], 'a')],
    ['a server that is no URL', config([cluster('a', '192.0.2.1:6443')], 'a')],
    ['another scheme', config([cluster('a', 'file:///etc/shadow')], 'a')],
    ['no YAML', '\t{'],
    ['nothing', ''],
  ] as const)
    it(`is not taken from a file with ${what}: the file is named`, () => {
      const path = write('wrong', text);
      const { servers, problems } = kubeletServers([path]);
      assert.deepEqual(servers, []);
      assert.equal(problems.length, 1);
      assert.ok(problems[0]!.startsWith(`${path}: `), problems[0]);
    });

  it('files that are not there are passed over, and addresses that come again', () => {
    const path = write('right', config([cluster('a', 'https://192.0.2.1:6443')], 'a'));
    const { servers, problems } = kubeletServers([join(folder, 'none'), join(path, 'below'), path, path]);
    assert.deepEqual(problems, []);
    assert.deepEqual(
      distinctServers(servers).map(({ url, why }) => ({ url, why })),
      [{ url: 'https://192.0.2.1:6443', why: `server of 'a' in ${path}` }],
    );
  });

  for (const place of kubeletPlaces)
    it(`is found at ${place}, and nothing but the address is written`, () => {
      const host = mkdtempSync(join(folder, 'host-'));
      mkdirSync(dirname(join(host, place)), { recursive: true });
      writeFileSync(join(host, place), config([cluster('a', 'https://192.0.2.1:6443')], 'a'));
      const output = join(host, 'kubeconfig');
      findApiServer({ hostRoot: host, output });
      const text = readFileSync(output, 'utf8');
      assert.doesNotMatch(text, /secret|users/);
      assert.deepEqual(serverOfKubeconfig(text), { name: place, url: 'https://192.0.2.1:6443' });
    });

  it('where none is found a file without a server is written', () => {
    const host = mkdtempSync(join(folder, 'host-'));
    const output = join(host, 'kubeconfig');
    findApiServer({ hostRoot: host, output });
    assert.deepEqual(kubeletServers([output]), { servers: [], problems: [] });
  });
});
