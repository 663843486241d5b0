import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parsePrefix, prefixHost } from '../../../src/model/address.ts';
import type { PodNetworkState } from '../../../src/model/pod-network.ts';
import { addressLines, CallCounts } from '../../../src/pods/metrics.ts';
import type { PodRecord } from '../../../src/pods/plan/pod.ts';

function samples(lines: readonly string[]): Record<string, number> {
  const found = lines
    .filter((line) => !line.startsWith('#'))
    .map((line) => /^(\S+) (\S+)$/.exec(line))
    .map((match) => [match?.[1], Number(match?.[2])]);
  return Object.fromEntries(found);
}

test('calls are counted by command and code, durations by command', () => {
  const counts = new CallCounts();
  counts.count('ADD', 0, 0.003);
  counts.count('ADD', 0, 0.7);
  counts.count('ADD', 11, 120);
  counts.count('DEL', 0, 0.001);
  counts.count('{"', 4, undefined);
  const found = samples(counts.lines());
  const expected = {
    'twill_cni_calls_total{command="ADD",code="0"}': 2,
    'twill_cni_calls_total{command="ADD",code="11"}': 1,
    'twill_cni_calls_total{command="other",code="4"}': 1,
    'twill_cni_call_duration_seconds_bucket{command="ADD",le="0.0025"}': 0,
    'twill_cni_call_duration_seconds_bucket{command="ADD",le="0.005"}': 1,
    'twill_cni_call_duration_seconds_bucket{command="ADD",le="60"}': 2,
    'twill_cni_call_duration_seconds_bucket{command="ADD",le="+Inf"}': 3,
    'twill_cni_call_duration_seconds_count{command="ADD"}': 3,
    'twill_cni_call_duration_seconds_bucket{command="DEL",le="0.001"}': 1,
  };
  for (const [name, value] of Object.entries(expected)) assert.equal(found[name], value, name);
});

test('addresses in use and free are counted by family while there is a subnet', () => {
  const families = ['10.244.7.0/24', 'fd00:7::/64'].map(parsePrefix).map((subnet) => {
    return { family: subnet.family, network: subnet, subnet, gateway: prefixHost(subnet, 1) };
  });
  const state: PodNetworkState = { ready: true, network: { families, mtu: 1450 } };
  const addresses = ['10.244.7.2/24', 'fd00:7::2/64'].map((address) => ({ address, gateway: '' }));
  const records = [{ addresses }, { addresses: addresses.slice(0, 1) }] as unknown as PodRecord[];
  assert.deepEqual(samples(addressLines(records, state)), {
    'twill_cni_addresses{ip_family="IPv4",state="used"}': 2,
    'twill_cni_addresses{ip_family="IPv4",state="free"}': 251,
    'twill_cni_addresses{ip_family="IPv6",state="used"}': 1,
    'twill_cni_addresses{ip_family="IPv6",state="free"}': 2 ** 64,
    twill_cni_attachments: 2,
  });
  assert.deepEqual(samples(addressLines(records, { ready: false, reason: '' })), {
    twill_cni_attachments: 2,
  });
});
