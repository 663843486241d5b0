import assert from 'node:assert/strict';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { addUplink } from '../../lab/command.ts';
import { twillProgram } from '../../lab/files.ts';
import { withNamespace } from '../../lab/namespace.ts';
import { startProxy } from '../../lab/proxy-process.ts';
import { waitFor } from '../../lab/wait.ts';

interface Rule {
  readonly table: string;
  readonly chain: string;
  readonly rule: string;
}

/** A Service of so many node ports with one endpoint. */
function manifest(name: string, clusterIP: string, count: number, nodePort: number): object[] {
  const numbers = Array.from({ length: count }, (_, index) => index + 1);
  const port = (number: number) => ({ name: `p${number}`, protocol: 'TCP', port: number });
  return [
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { namespace: 'shop', name },
      spec: {
        type: 'NodePort',
        clusterIP,
        clusterIPs: [clusterIP],
        ports: numbers.map((number) => ({ ...port(number), nodePort: nodePort + number })),
      },
    },
    {
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: { namespace: 'shop', name: `${name}-1`, labels: { 'kubernetes.io/service-name': name } },
      addressType: 'IPv4',
      ports: numbers.map(port),
      endpoints: [{ addresses: ['10.244.1.2'], conditions: { ready: true } }],
    },
  ];
}

for (const variant of ['nft', 'legacy'])
  test(`the rules of a Service of many ports are those of each of its ports, iptables-${variant}`, async () => {
    await withNamespace('ports', async (node) => {
      await addUplink(node);
      const folder = mkdtempSync(join(node.directory, 'ports-'));
      const socket = join(folder, 'proxy.sock');
      const items = [
        ...manifest('many', '10.96.0.10', 40, 30_000),
        ...manifest('one', '10.96.0.11', 1, 31_000),
      ];
      writeFileSync(join(folder, 'services.yaml'), JSON.stringify({ apiVersion: 'v1', kind: 'List', items }));
      // As kubelet leaves it: the proxy takes the variant in which this stands.
      await node.exec(`iptables-${variant}`, ['-t', 'mangle', '-N', 'KUBE-IPTABLES-HINT']);
      startProxy(node, [
        ...['--proxy-mode=iptables', `--manifests=${folder}`],
        ...['--hostname-override=node1', `--inspect-socket=${socket}`],
        ...['--healthz-bind-address=127.0.0.1:10256', '--metrics-bind-address='],
      ]);
      const rulesOf = async (name: string): Promise<readonly Rule[]> => {
        const flags = ['-o', 'json', '--socket=/nobody/agent', `--proxy-socket=${socket}`];
        const { stdout } = await node.run(twillProgram, ['services', `shop/${name}`, ...flags]);
        return stdout === '' ? [] : (JSON.parse(stdout) as { rules: Rule[] }).rules;
      };
      await waitFor('rules', async () => (await rulesOf('one')).length > 0);
      const chains = await node.exec(`iptables-${variant}-save`, ['-t', 'nat']);
      assert.match(chains, /KUBE-SVC-/, 'the variant that is meant');
      // Of each port the same kinds in the same order, read of the whole table or chain by chain.
      const kinds = (rules: readonly Rule[]): string[] =>
        rules.map(({ table, chain, rule }) =>
          `${table} ${chain} ${rule}`
            .replaceAll(/KUBE-(SVC|EXT)-[A-Z2-7]{16}/g, 'KUBE-$1')
            .replaceAll(/shop\/\w+:p\d+|10\.96\.0\.\d+|(?<=[ :])\d+$|(?<=--dport )\d+/g, 'X'),
        );
      const [many, one] = [kinds(await rulesOf('many')), kinds(await rulesOf('one'))];
      assert.equal(many.length, 40 * one.length);
      assert.deepEqual([...new Set(many)], one);
    });
  });
