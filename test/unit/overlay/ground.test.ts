import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseLease } from '../../../src/leases/plan/lease.ts';
import { parseNetworkConfig } from '../../../src/leases/plan/network-config.ts';
import { parseAddress } from '../../../src/model/address.ts';
import { bridgeProblems, plausibleNodes } from '../../../src/overlay/plan/ground.ts';

test('a public IP in the pod network is no node’s, unless the nodes are in it themselves and no subnet has it', () => {
  const config = parseNetworkConfig('{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan"}}');
  const leases = new Map(
    [
      ['10.244.1.0-24', '192.0.2.1'],
      ['10.244.2.0-24', '10.244.1.9'],
      ['10.244.3.0-24', '10.244.200.9'],
    ].map(([name, ip]) => [
      name!,
      parseLease(
        name!,
        `{"PublicIP":"${ip}","BackendType":"vxlan","BackendData":{"VtepMAC":"02:00:00:00:0${name![7]}:01"}}`,
      ),
    ]),
  );
  const plausible = (own: string): string[] => {
    const holds = plausibleNodes(leases, config, [parseAddress(own)]);
    return [...leases.values()]
      .filter((lease) => holds(lease, lease.families[0]!.publicIp))
      .map(({ name }) => name);
  };
  assert.deepEqual(plausible('192.0.2.7'), ['10.244.1.0-24']);
  assert.deepEqual(plausible('10.244.200.7'), ['10.244.1.0-24', '10.244.3.0-24']);
});

test('another device that has the name of the pods’ bridge is named with its kind', () => {
  const links = (kind: string | undefined) => [
    { name: 'eth0', kind: undefined },
    { name: 'cni0', kind },
  ];
  assert.deepEqual(bridgeProblems(links('bridge'), 'cni0'), []);
  assert.deepEqual(bridgeProblems(links('dummy'), 'twill0'), []);
  for (const [kind, said] of [
    ['dummy', 'dummy'],
    [undefined, 'physical'],
  ] as const) {
    const [problem, ...rest] = bridgeProblems(links(kind), 'cni0');
    assert.deepEqual(rest, []);
    assert.match(problem?.detail ?? '', new RegExp(`^device cni0 is no bridge but of kind ${said}, `));
  }
});
