import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { twillProgram } from '../../lab/files.ts';
import { type Namespace, withNamespace } from '../../lab/namespace.ts';
import { startProxy } from '../../lab/proxy-process.ts';
import { serviceObject } from '../../lab/service-fixtures.ts';
import { waitFor } from '../../lab/wait.ts';

/** The tables as kube-proxy makes them in its mode nftables, in short, and the device of its mode ipvs. */
async function leaveThings(node: Namespace): Promise<void> {
  for (const family of ['ip', 'ip6']) {
    const address = family === 'ip' ? '10.96.0.10' : 'fd00:96::10';
    const document = `table ${family} kube-proxy {
      map service-ips { type ${family === 'ip' ? 'ipv4_addr' : 'ipv6_addr'} . inet_proto . inet_service : verdict
        elements = { ${address} . tcp . 80 : goto service-web } }
      chain service-web { return; }
      chain services { ${family} daddr . meta l4proto . th dport vmap @service-ips; }
      chain nat-prerouting { type nat hook prerouting priority -100; jump services; }
      chain filter-output { type filter hook output priority -90; jump services; }
    }
    table ${family} other { chain x { }; }`;
    await node.exec('nft', ['-f', '-'], { input: document });
  }
  // The kernel of the tests has no dummy devices; it is known by its name.
  await node.exec('ip', ['link', 'add', 'kube-ipvs0', 'type', 'bridge']);
  await node.exec('ip', ['address', 'add', '10.96.0.10/32', 'dev', 'kube-ipvs0']);
}

async function things(node: Namespace): Promise<string[]> {
  const tables = (await node.exec('nft', ['list', 'tables']))
    .split('\n')
    .filter((line) => /kube-proxy|other/.test(line));
  const device = await node.run('ip', ['link', 'show', 'kube-ipvs0']);
  return [...tables, ...(device.status === 0 ? ['kube-ipvs0'] : [])].sort();
}

const everything = [
  'kube-ipvs0',
  'table ip kube-proxy',
  'table ip other',
  'table ip6 kube-proxy',
  'table ip6 other',
];
const others = ['table ip other', 'table ip6 other'];

describe('what a kube-proxy of another mode has left', () => {
  test('is removed once our rules stand, and nothing else is', async () => {
    await withNamespace('left', async (node) => {
      await leaveThings(node);
      const directory = mkdtempSync(join(tmpdir(), 'twill-left-'));
      try {
        // No Services to write yet: nothing is removed while nothing of ours stands.
        const starting = startProxy(node, ['--kubeconfig=/nonexistent', '--healthz-bind-address=']);
        await once(starting.child, 'exit');
        assert.deepEqual(await things(node), everything);
        const web = serviceObject('ns/web', { clusterIP: '10.96.0.10', ports: [{ name: 'http', port: 80 }] });
        writeFileSync(join(directory, 'web.yaml'), JSON.stringify(web));
        const { child, text, warnings } = startProxy(node, [`--manifests=${directory}`]);
        await waitFor('the end of it', async () => (await things(node)).length === 2, { explain: text });
        await waitFor('word of it', () => /had left is removed/.test(text()));
        assert.deepEqual(await things(node), others);
        assert.ok(text().indexOf('rules in sync') < text().indexOf('had left is removed'));
        for (const name of ['table ip kube-proxy', 'table ip6 kube-proxy', 'device kube-ipvs0'])
          assert.ok(text().includes(name), name);
        assert.match(await node.exec('iptables-nft-save', []), /10\.96\.0\.10\/32/);
        assert.deepEqual(warnings(), []);
        child.kill();
        await once(child, 'exit');
      } finally {
        rmSync(directory, { recursive: true });
      }
    });
  });

  test('is removed by --cleanup, which may be done twice', async () => {
    await withNamespace('left', async (node) => {
      await leaveThings(node);
      const first = await node.exec(twillProgram, ['proxy', '--cleanup']);
      assert.match(
        first,
        /nftables table ip kube-proxy removed\n.*ip6 kube-proxy removed\ndevice kube-ipvs0 removed/,
      );
      assert.deepEqual(await things(node), others);
      assert.equal(await node.exec(twillProgram, ['proxy', '--cleanup']), '');
    });
  });
});
