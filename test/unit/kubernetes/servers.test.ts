import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { findApiServer, kubeletPlaces } from '../../../src/kubernetes/find-server.ts';
import { distinctServers, kubeletServers, serversOfKubeconfig } from '../../../src/kubernetes/servers.ts';

const cluster = (name: string, server: string): object => ({ name, cluster: { server } });
const config = (clusters: readonly object[], current?: string): string =>
  JSON.stringify({
    clusters,
    contexts: [{ name: 'x', context: { cluster: current, user: 'u' } }],
    'current-context': 'x',
    users: [{ name: 'u', user: { token: 'secret' } }],
  });

const serversOf = (text: string) => serversOfKubeconfig(text).servers;

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
    assert.deepEqual(serversOf(config(two, 'b')), [{ name: 'b', url: 'https://[2001:db8::1]:6443' }]);
    assert.equal(serversOf(config(two.slice(0, 1), 'gone'))[0]?.url, 'https://192.0.2.1:6443');
    assert.deepEqual(serversOf(config([])), []);
  });

  for (const [server, url] of [
    // A k3s agent's load balancer, RKE2's and MicroK8s's API on the node itself, a name of /etc/hosts.
    ['https://127.0.0.1:6444', 'https://127.0.0.1:6444'],
    ['https://localhost:6443', 'https://localhost:6443'],
    ['https://127.0.0.1:16443', 'https://127.0.0.1:16443'],
    ['https://lb-apiserver.kubernetes.local', 'https://lb-apiserver.kubernetes.local'],
    ['https://[::1]:6443/', 'https://[::1]:6443'],
    [' https://192.0.2.1:6443/ \n', 'https://192.0.2.1:6443'],
    ['HTTPS://Api.Example:443', 'https://Api.Example:443'],
    ['https://rancher.example/k8s/clusters/c-1/', 'https://rancher.example/k8s/clusters/c-1'],
    ['https://someone:secret@192.0.2.1:6443', 'https://192.0.2.1:6443'],
  ] as const)
    it(`may be ${server.replace('secret', '…')}`, () => {
      assert.deepEqual(serversOf(config([cluster('a', server)], 'a')), [{ name: 'a', url }]);
    });

  for (const [what, text] of [
    [
      'several clusters and none current',
      config([cluster('a', 'https://a'), cluster('b', 'https://b')], 'c'),
    ],
    ['no server', config([{ name: 'a', cluster: {} }], 'a')],
    ['a server that is no URL', config([cluster('a', '192.0.2.1:6443')], 'a')],
    ['a server with a query', config([cluster('a', 'https://192.0.2.1:6443/?a=b')], 'a')],
    ['a server with a query of nothing', config([cluster('a', 'https://192.0.2.1:6443/?')], 'a')],
    ['a server that is no text', config([{ name: 'a', cluster: { server: 6443 } }], 'a')],
    ['clusters that are null', config([null as unknown as object], 'a')],
    ['a text', 'hello'],
    ['a list', '[]'],
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
      assert.deepEqual(serversOf(text), [{ name: place, url: 'https://192.0.2.1:6443' }]);
    });

  it('where there are several all are written, the first first, with why others name none', () => {
    const host = mkdtempSync(join(folder, 'host-'));
    const [kubeadm, k3s, rke2] = kubeletPlaces;
    for (const [place, text] of [
      [kubeadm, config([cluster('old', 'https://192.0.2.1:6443')], 'old')],
      [k3s, config([cluster('local', 'https://127.0.0.1:6444')], 'local')],
      [rke2, 'hello'],
    ] as const)
      write(join(host.slice(folder.length), place), text);
    const output = join(host, 'kubeconfig');
    findApiServer({ hostRoot: host, output });
    const { servers, problems } = kubeletServers([output]);
    assert.deepEqual(
      servers.map(({ url, why }) => [url, why]),
      [
        ['https://192.0.2.1:6443', `server of '${kubeadm}' in ${output}`],
        ['https://127.0.0.1:6444', `server of '${k3s}' in ${output}`],
      ],
    );
    assert.deepEqual(problems, [`${rke2}: it is no kubeconfig`]);
  });

  it('links are the host’s: one to an absolute path is followed below its root, one without end is named', () => {
    const host = mkdtempSync(join(folder, 'host-'));
    const below = (path: string): string => join(host.slice(folder.length), path);
    write(below('/var/lib/kubelet/real.conf'), config([cluster('a', 'https://192.0.2.1:6443')], 'a'));
    mkdirSync(join(host, 'etc/kubernetes'), { recursive: true });
    symlinkSync('/var/lib/kubelet/real.conf', join(host, 'etc/kubernetes/kubelet.conf'));
    mkdirSync(join(host, 'var/snap/microk8s/7'), { recursive: true });
    symlinkSync('7', join(host, 'var/snap/microk8s/current'));
    write(
      below('/var/snap/microk8s/7/credentials/kubelet.config'),
      config([cluster('b', 'https://127.0.0.1:16443')]),
    );
    mkdirSync(join(host, 'var/lib/k0s'), { recursive: true });
    symlinkSync('../k0s/kubelet.conf', join(host, 'var/lib/k0s/kubelet.conf'));
    const { servers, problems } = kubeletServers(kubeletPlaces, host);
    assert.deepEqual(
      servers.map(({ url }) => url),
      ['https://192.0.2.1:6443', 'https://127.0.0.1:16443'],
    );
    assert.deepEqual(problems, ["/var/lib/k0s/kubelet.conf: '/var/lib/k0s/kubelet.conf' has too many links"]);
  });

  it('where none is found a file without a server is written', () => {
    const host = mkdtempSync(join(folder, 'host-'));
    const output = join(host, 'kubeconfig');
    findApiServer({ hostRoot: host, output });
    assert.deepEqual(kubeletServers([output]), { servers: [], problems: [] });
  });
});
