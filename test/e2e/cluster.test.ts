import { after, before, suite, test } from 'node:test';
import { checks } from '../lab/checks.ts';
import { defaultNetworkConfig, Lab, type LabOptions } from '../lab/lab.ts';
import { type FamilyName, playScenario, type Scenario } from '../lab/scenario.ts';

const ipv6Network = 'fd00:10:244::/48';

const clusters: readonly { name: string; families: readonly FamilyName[]; options: LabOptions }[] = [
  { name: 'IPv4', families: ['ipv4'], options: {} },
  {
    name: 'both families',
    families: ['ipv4', 'ipv6'],
    options: {
      networkConfig: { ...defaultNetworkConfig, EnableIPv6: true, IPv6Network: ipv6Network },
      clusterCidr: `${defaultNetworkConfig.Network},${ipv6Network}`,
    },
  },
  {
    name: 'IPv6 alone, on an underlay without IPv4',
    families: ['ipv6'],
    options: {
      underlay: 'ipv6',
      networkConfig: {
        EnableIPv4: false,
        EnableIPv6: true,
        IPv6Network: ipv6Network,
        Backend: { Type: 'vxlan' },
      },
      clusterCidr: ipv6Network,
    },
  },
];

for (const { name, families, options } of clusters) {
  suite(`a cluster of three nodes with ${name}`, () => {
    let lab: Lab;
    let scenario: Scenario;
    before(async () => {
      lab = await Lab.start({ nodes: 3, ...options });
      scenario = await playScenario(lab, families);
    });
    after(async () => {
      await lab?.stop();
    });
    for (const family of families) {
      for (const check of checks)
        test(`${check.name} (${family})`, async (context) => {
          try {
            context.diagnostic(await check.run({ ...scenario, family }));
          } catch (error) {
            const stands = await Promise.all(lab.nodes.map((node) => node.look()));
            throw new Error(`${check.name} failed\n${stands.join('\n')}\n${lab.tails()}`, { cause: error });
          }
        });
    }
  });
}
