import assert from 'node:assert/strict';
import { once } from 'node:events';
import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { root, twillProgram } from '../../lab/files.ts';
import type { ApiObject } from '../../lab/kube-api.ts';
import { NamespacedKubeApi } from '../../lab/kube-api-client.ts';
import { type Namespace, withNamespace } from '../../lab/namespace.ts';
import { follow, startProxy } from '../../lab/proxy-process.ts';
import { serviceObject } from '../../lab/service-fixtures.ts';
import { waitFor } from '../../lab/wait.ts';

async function withDirectory(work: (directory: string) => Promise<void>): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'twill-config-'));
  try {
    await work(directory);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

const service = serviceObject('ns/web', { clusterIP: '10.96.0.10', ports: [{ name: 'http', port: 80 }] });
const rules = (node: Namespace): Promise<string> => node.exec('iptables-nft-save', []);
const hasRules = (node: Namespace) => async (): Promise<boolean> =>
  (await rules(node)).includes('10.96.0.10/32');

/** The files as the kubelet lays out a ConfigMap: links to a directory that is exchanged as a whole. */
function mountConfigMap(directory: string, version: string, text: string): void {
  mkdirSync(join(directory, version));
  writeFileSync(join(directory, version, 'config.conf'), text);
  symlinkSync(version, join(directory, '..tmp'));
  renameSync(join(directory, '..tmp'), join(directory, '..data'));
}

test('kubeadm’s ConfigMap starts it without a warning; another version of it ends it with status 0, rules stay', async () => {
  await withNamespace('config', async (node) => {
    await withDirectory(async (directory) => {
      const api = await NamespacedKubeApi.start(node);
      const nodeObject = { kind: 'Node', metadata: { name: 'node1' } };
      api.send({ put: [nodeObject, service as unknown as ApiObject] });
      const kubeconfig = join(directory, 'kubeconfig.conf');
      const context = { name: 'default', context: { cluster: 'default', user: 'default' } };
      const clusters = [{ name: 'default', cluster: { server: api.url } }];
      const users = [{ name: 'default', user: { token: 'secret' } }];
      writeFileSync(
        kubeconfig,
        JSON.stringify({ clusters, users, contexts: [context], 'current-context': 'default' }),
      );
      const fixture = readFileSync(join(root, 'test/fixtures/kubeadm-kube-proxy.yaml'), 'utf8');
      const text = fixture.replace('/var/lib/kube-proxy/kubeconfig.conf', kubeconfig);
      const mounted = join(directory, 'mounted');
      mkdirSync(mounted);
      mountConfigMap(mounted, '..1', text);
      symlinkSync('..data/config.conf', join(mounted, 'config.conf'));
      // As in kubeadm's DaemonSet.
      const args = [`--config=${mounted}/config.conf`, '--hostname-override=node1'];
      const { child, warnings, text: log } = startProxy(node, args);
      await waitFor('rules', hasRules(node));
      assert.deepEqual(warnings(), []);
      mountConfigMap(mounted, '..2', `${text}\nunknown: 1\n`);
      await waitFor('word of the field', () => /unknown field 'unknown'.*the old one counts/.test(log()));
      mountConfigMap(mounted, '..4', text.replace('mode: ""', 'mode: ipvs'));
      await waitFor('word of the mode', () => /mode in .* is 'ipvs'.*the old one counts/.test(log()));
      assert.equal(child.exitCode, null);
      const ended = once(child, 'exit');
      mountConfigMap(mounted, '..3', text.replace('10.244.0.0/16', '10.245.0.0/16'));
      assert.deepEqual(await ended, [0, null], log());
      assert.ok(await hasRules(node)());
    });
  });
});

test('the configuration in force is written, and starts it', async () => {
  await withNamespace('config', async (node) => {
    await withDirectory(async (directory) => {
      writeFileSync(join(directory, 'web.yaml'), JSON.stringify(service));
      const path = join(directory, 'written.conf');
      const write = ['proxy', '--masquerade-all', `--write-config-to=${path}`];
      assert.equal((await node.run(twillProgram, write)).status, 0);
      assert.match(readFileSync(path, 'utf8'), /^ {2}masqueradeAll: true$/m);
      const { child, warnings } = startProxy(node, [`--config=${path}`, `--manifests=${directory}`]);
      await waitFor('rules', hasRules(node));
      assert.deepEqual(warnings(), []);
      child.kill();
      await once(child, 'exit');
    });
  });
});

test('what has no effect is said, with the reason, and the environment sets what no flag does', async () => {
  await withNamespace('config', async (node) => {
    await withDirectory(async (directory) => {
      writeFileSync(join(directory, 'web.yaml'), JSON.stringify(service));
      const args = [`--manifests=${directory}`, '--kube-api-qps=20', '--log_dir=/tmp', '--ipvs-scheduler=rr'];
      const { child, warnings, text } = startProxy(node, args, { TWILL_V: '4' });
      await waitFor('rules', hasRules(node));
      assert.deepEqual(
        warnings().map(({ msg }) => msg.replace(/:.*/, '')),
        ['has no effect', 'has no effect', 'has no effect'],
      );
      assert.match(text(), /"level":20,/, 'TWILL_V');
      child.kill();
      await once(child, 'exit');
    });
  });
});

describe('without a flag that says how to reach the Kubernetes API', () => {
  const elsewhere = { KUBECONFIG: '/nonexistent/kubeconfig' };

  test('the service account of the pod is used, not the kubeconfig of whoever starts it', async () => {
    await withNamespace('config', async (node) => {
      const account = '/run/secrets/kubernetes.io/serviceaccount';
      const script = `mount -t tmpfs tmpfs /run && mkdir -p ${account} && echo secret > ${account}/token &&
        echo none > ${account}/ca.crt && exec "$0" proxy`;
      const child = node.spawn('unshare', ['-m', 'sh', '-c', script, twillProgram], {
        stdio: ['ignore', 'ignore', 'pipe'],
        env: {
          ...process.env,
          ...elsewhere,
          KUBERNETES_SERVICE_HOST: '127.0.0.1',
          KUBERNETES_SERVICE_PORT: '8001',
        },
      });
      const { text } = follow(child);
      await waitFor('the start', () => text().includes('Kubernetes API at http://127.0.0.1:8001'));
      child.kill();
      await once(child, 'exit');
    });
  });

  test('and in no pod it ends, and says what to do', async () => {
    await withNamespace('config', async (node) => {
      const env = { ...process.env, ...elsewhere, HOME: '/nonexistent' };
      const { status, stderr } = await node.run(twillProgram, ['proxy'], { env });
      assert.equal(status, 1);
      assert.match(stderr, /no pod with a service account, so a kubeconfig must be given/);
    });
  });
});

/** A setting of connection tracking in the namespace. */
async function setting(node: Namespace, name: string): Promise<number> {
  return Number(await node.exec('cat', [`/proc/sys/net/netfilter/nf_conntrack_${name}`]));
}

describe('connection tracking', () => {
  test('has the timeouts that are asked for, kube-proxy’s where none are', async () => {
    await withNamespace('conntrack', async (node) => {
      await withDirectory(async (directory) => {
        writeFileSync(join(directory, 'web.yaml'), JSON.stringify(service));
        const first = startProxy(node, [`--manifests=${directory}`]);
        await waitFor('rules', hasRules(node));
        assert.equal(await setting(node, 'tcp_timeout_established'), 86_400);
        assert.equal(await setting(node, 'tcp_timeout_close_wait'), 3600);
        assert.equal(await setting(node, 'tcp_be_liberal'), 0);
        assert.match(await rules(node), /--ctstate INVALID/);
        // As Kubernetes' conformance test asks: a connection that one side has closed is kept for the timeout.
        const program = `
          const { createServer, connect } = require('node:net');
          createServer({ allowHalfOpen: true }, (socket) => socket.resume()).listen(8080, '127.0.0.1', () =>
            connect({ port: 8080, host: '127.0.0.1', allowHalfOpen: true }, function () { this.end(); }));`;
        node.spawn(process.execPath, ['-e', program], { stdio: 'ignore' });
        const kept = await waitFor('CLOSE_WAIT', async () => {
          const { stdout } = await node.run('conntrack', ['-L', '-p', 'tcp', '--dport', '8080']);
          return Number(/^tcp +6 (\d+) CLOSE_WAIT /m.exec(stdout)?.[1] ?? 0) || false;
        });
        assert.ok(kept > 3000 && kept <= 3600, `${kept}`);
        first.child.kill();
        await once(first.child, 'exit');
        const flags = [
          '--conntrack-tcp-timeout-established=0',
          '--conntrack-tcp-timeout-close-wait=2m30s',
          '--conntrack-tcp-be-liberal',
          '--conntrack-udp-timeout=44s',
          '--conntrack-udp-timeout-stream=199s',
        ];
        const second = startProxy(node, [`--manifests=${directory}`, ...flags]);
        await waitFor('rules', () => /rules in sync/.test(second.text()));
        assert.equal(await setting(node, 'tcp_timeout_established'), 86_400);
        assert.equal(await setting(node, 'tcp_timeout_close_wait'), 150);
        assert.equal(await setting(node, 'udp_timeout'), 44);
        assert.equal(await setting(node, 'udp_timeout_stream'), 199);
        assert.equal(await setting(node, 'tcp_be_liberal'), 1);
        assert.doesNotMatch(await rules(node), /--ctstate INVALID/);
        second.child.kill();
        await once(second.child, 'exit');
      });
    });
  });

  test('is left as it is where it may not be set, which is said once', async () => {
    await withNamespace('conntrack', async (node) => {
      await withDirectory(async (directory) => {
        writeFileSync(join(directory, 'web.yaml'), JSON.stringify(service));
        // The limit is read-only in every network namespace but the first.
        const limited = ['--conntrack-min=2000000000', `--manifests=${directory}`];
        const script = `mount -o bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && exec "$0" "$@"`;
        const child = node.spawn('unshare', ['-m', 'sh', '-c', script, twillProgram, 'proxy', ...limited], {
          stdio: ['ignore', 'ignore', 'pipe'],
        });
        const { warnings } = follow(child);
        await waitFor('rules', hasRules(node));
        const said = warnings().filter(({ failed }) => failed !== undefined);
        assert.deepEqual(
          said.map(({ failed }) => failed),
          [
            [
              'nf_conntrack_max=2000000000 (EROFS)',
              'nf_conntrack_tcp_timeout_established=86400 (EROFS)',
              'nf_conntrack_tcp_timeout_close_wait=3600 (EROFS)',
            ],
          ],
        );
        child.kill();
        await once(child, 'exit');
        const init = await node.run(twillProgram, ['proxy', '--init-only', ...limited]);
        assert.equal(init.status, 1);
        assert.match(init.stderr, /--init-only: cannot set nf_conntrack_max=2000000000 \(EACCES\)/);
      });
    });
  });
});
