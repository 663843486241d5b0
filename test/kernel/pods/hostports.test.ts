import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { openIptables } from '../../../src/kernel/iptables.ts';
import { families, ipv4 } from '../../../src/model/address.ts';
import { PrintedRules } from '../../../src/pods/kernel/conditions.ts';
import {
  hostPortRules,
  ownChain,
  repairDocument,
  replaceDocument,
} from '../../../src/pods/plan/hostports.ts';
import type { PodRecord } from '../../../src/pods/plan/pod.ts';
import { foundMappings } from '../../../src/pods/plan/portmap.ts';
import { withNamespace } from '../../lab/namespace.ts';

const folder = join(import.meta.dirname, '../../../../test/golden/pods');

function conditioned(at: number, words: readonly string[]): PodRecord {
  return {
    network: 'twill',
    containerId: `c${at}`,
    ifname: 'eth0',
    netns: '/run/netns/x',
    addresses: [
      { address: `10.244.7.${2 + at}/24`, gateway: '10.244.7.1' },
      { address: `fd00:244:0:7::${2 + at}/64`, gateway: 'fd00:244:0:7::1' },
    ],
    routes: [],
    mac: '',
    mtu: 1450,
    hostVeth: `veth${at}`,
    bridge: 'cni0',
    hairpin: true,
    portMappings: [{ hostPort: 8000 + at, containerPort: 80, protocol: 'tcp' }],
    hostPortOptions: { conditionsV4: words, conditionsV6: words },
    bandwidth: undefined,
    pod: undefined,
    order: at,
    createdAt: '2026-01-01T00:00:00Z',
  };
}

for (const family of families) {
  for (const variant of ['nft', 'legacy'] as const) {
    test(`host port rules read back as they were written: ${family.iptables}-${variant}`, async () => {
      const document = readFileSync(join(folder, `hostports.${family.name}.golden`), 'utf8');
      const rules = document.split('\n').filter((line) => line.startsWith(`-A ${ownChain} `));
      await withNamespace('hostports', async (namespace) => {
        const program = `${family.iptables}-${variant}`;
        const restore = (input: string): Promise<string> =>
          namespace.exec(`${program}-restore`, ['--noflush'], { input });
        const save = (): Promise<string> => namespace.exec(`${program}-save`, ['-t', 'nat']);
        await restore(document);
        assert.equal(repairDocument(await save(), rules), undefined);
        await restore(replaceDocument(rules));
        assert.equal(repairDocument(await save(), rules), undefined, 'replaced by the same');
        await restore(repairDocument(await save(), []) ?? '');
        assert.doesNotMatch(await save(), /TWILL/);
      });
    });

    test(`rules with conditions are compared as they are printed: ${family.iptables}-${variant}`, async () => {
      const conditions = [
        ['!', '-d', family === ipv4 ? '192.0.2.1' : '2001:db8::1', '--syn'],
        ['-m', 'multiport', '!', '--sports', '1:2', '-m', 'comment', '--comment', 'not "that" \\one'],
        ['-i', 'eth0', '-m', 'conntrack', '--ctstate', 'NEW,RELATED'],
        ['-m', 'limit', '--limit', '3/hour', '-m', 'mark', '!', '--mark', '7/15'],
      ];
      const records = conditions.map((words, at) => conditioned(at, words));
      await withNamespace('conditions', async (namespace) => {
        const iptables = openIptables(family, variant, namespace.name);
        const printed = new PrintedRules(iptables);
        const rules = await printed.of(hostPortRules(records, family));
        await iptables.restore(repairDocument(await iptables.save('nat'), rules)!);
        assert.equal(repairDocument(await iptables.save('nat'), rules), undefined);
        assert.deepEqual(
          await new PrintedRules(iptables).of(hostPortRules(records, family)),
          rules,
          'asked again',
        );
        for (const { options, hostPort } of foundMappings(await iptables.save('nat'))) {
          const again = conditioned(hostPort - 8000, Object.values(options)[0] as string[]);
          const expected = rules.filter((rule) => rule.includes(` ${hostPort} `));
          assert.deepEqual(
            await printed.of(hostPortRules([again], family)),
            expected,
            'found as they were given',
          );
        }
        const fewer = await printed.of(hostPortRules(records.slice(1), family));
        await iptables.restore(replaceDocument(fewer, rules));
        assert.equal(repairDocument(await iptables.save('nat'), fewer), undefined);
        await iptables.restore('*nat\n:TWILL-HP-TRIAL - [0:0]\n-A TWILL-HP-TRIAL -j RETURN\nCOMMIT\n');
        await iptables.restore(repairDocument(await iptables.save('nat'), fewer)!);
        assert.doesNotMatch(await iptables.save('nat'), /TRIAL/, 'what a killed agent left');
        await iptables.restore(repairDocument(await iptables.save('nat'), [])!);
        assert.doesNotMatch(await iptables.save('nat'), /TWILL/);
      });
    });
  }
}
