import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { tableName } from '../../../src/services/nftables/plan/names.ts';
import { root, twillProgram } from '../../lab/files.ts';
import { afterMore, Load } from '../../lab/load.ts';
import type { LabNode } from '../../lab/node.ts';
import { type EndpointSpec, serviceObject, sliceObject } from '../../lab/service-fixtures.ts';
import { withServiceLab } from '../../lab/service-lab.ts';

const clusterIP = '10.96.0.10';
const target = { protocol: 'tcp', address: clusterIP, port: 80 } as const;
const web = serviceObject('shop/web', { clusterIP, ports: [{ name: 'http', port: 80, protocol: 'TCP' }] });

function endpoints(...specs: readonly EndpointSpec[]): Record<string, unknown> {
  return sliceObject('shop/web', [{ name: 'http', port: 8080, protocol: 'TCP' }], specs);
}

/** What of each mode stands on the node. */
async function standing(node: LabNode): Promise<string> {
  const texts = await Promise.all([
    ...['iptables-nft-save', 'ip6tables-nft-save', 'iptables-legacy-save'].map((program) =>
      node.exec(program, []),
    ),
    node.exec('nft', ['list', 'tables']),
  ]);
  const text = texts.join('\n');
  return [/:KUBE-SVC-/.test(text) ? 'iptables' : '', text.includes(tableName) ? 'nftables' : '']
    .filter((mode) => mode !== '')
    .join();
}

test('no connection fails while the proxy changes from each mode to the other, and nothing of that stays', async () => {
  await withServiceLab({ nodes: 1 }, async (services) => {
    const node = services.lab.nodes[0]!;
    const a = await services.addServer(node, 'a');
    const caller = await services.addPod(node, 'caller');
    services.write('web.yaml', web, endpoints({ ip: a.ipv4, node: 'node1' }));
    await services.startProxy(node);
    const load = new Load(caller, target);
    for (const flag of ['nftables', 'iptables', 'auto']) {
      const mode = flag === 'auto' ? 'nftables' : flag;
      await afterMore(services, load, 30);
      await node.proxy!.stop();
      await services.startProxy(node, [`--proxy-mode=${flag}`]);
      await services.lab.waitFor(`only ${mode}`, async () => (await standing(node)) === mode);
      await afterMore(services, load, 30);
    }
    assert.deepEqual((await load.end()).failures, []);
    await node.proxy!.stop();
    await node.exec(process.execPath, [twillProgram, 'proxy', '--cleanup']);
    assert.equal(await standing(node), '');
  });
});

/** What stands of a kube-proxy 1.36.2 that has served `shop/web` with the endpoint 10.244.1.2, in each of its modes. */
async function leaveKubeProxy(node: LabNode, mode: 'iptables' | 'nftables'): Promise<void> {
  const of = (kind: string): string => readFileSync(join(root, `test/lab/kube-proxy-1.36.2.${kind}`), 'utf8');
  if (mode === 'nftables') {
    await node.exec('nft', ['-f', '-'], { input: of('nft') });
    return;
  }
  // It counts packets only where the kernel has the counters, which it has made before.
  const input = of('iptables').replace(/-m nfacct --nfacct-name +\S+ /g, '');
  await node.exec('iptables-nft-restore', [], { input });
}

for (const [left, mode] of [
  ['iptables', 'auto'],
  ['nftables', 'auto'],
  ['nftables', 'iptables'],
] as const)
  test(`no connection fails from a kube-proxy in mode ${left} to --proxy-mode=${mode}, and nothing of that one stays`, async () => {
    await withServiceLab({ nodes: 1 }, async (services) => {
      const node = services.lab.nodes[0]!;
      const a = await services.addServer(node, 'a');
      assert.equal(a.ipv4, '10.244.1.2');
      const caller = await services.addPod(node, 'caller');
      await leaveKubeProxy(node, left);
      services.write('web.yaml', web, endpoints({ ip: a.ipv4, node: 'node1' }));
      const load = new Load(caller, target);
      await afterMore(services, load, 30);
      await services.startProxy(node, [`--proxy-mode=${mode}`]);
      const gone = async (): Promise<boolean> => {
        const tables = await node.exec('nft', ['list', 'tables']);
        const saved = await node.exec('iptables-nft-save', []);
        return !tables.includes('kube-proxy') && !/KUBE-SEP-/.test(saved);
      };
      await services.lab.waitFor(`what mode ${left} had to go`, gone);
      const expected = mode === 'auto' ? 'nftables' : mode;
      await services.lab.waitFor(`only ${expected}`, async () => (await standing(node)) === expected);
      await afterMore(services, load, 30);
      assert.deepEqual((await load.end()).failures, []);
      await node.proxy!.stop();
      await node.exec(process.execPath, [twillProgram, 'proxy', '--cleanup']);
      assert.equal(await standing(node), '');
      assert.doesNotMatch(
        await node.exec('iptables-nft-save', []),
        /KUBE-(SVC|SEP|SERVICES|MARK-MASQ|PROXY)/,
      );
    });
  });
