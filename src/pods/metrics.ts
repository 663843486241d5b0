import type { PodNetworkState } from '../model/pod-network.ts';
import { commands } from './cni/call.ts';
import { capacity } from './plan/address.ts';
import { addressesOf, type PodRecord } from './plan/pod.ts';

/** Upper bounds in seconds: a call takes a few milliseconds, and the executable gives up after a minute. */
const buckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 60];

interface Series {
  readonly counts: number[];
  sum: number;
}

/** What CNI calls there were: how they ended, and how long those took that were carried out. */
export class CallCounts {
  /** By command and error code, 0 for success. */
  private readonly ended = new Map<string, { command: string; code: number; count: number }>();
  private readonly durations = new Map<string, Series>();

  /** @param seconds undefined for a call that was refused before anything was done */
  count(command: string | undefined, code: number, seconds: number | undefined): void {
    const known = commands.find((name) => name === command) ?? 'other';
    const key = `${known} ${code}`;
    const entry = this.ended.get(key) ?? { command: known, code, count: 0 };
    entry.count++;
    this.ended.set(key, entry);
    if (seconds === undefined) return;
    const series = this.durations.get(known) ?? { counts: buckets.map(() => 0).concat(0), sum: 0 };
    const index = buckets.findIndex((bound) => seconds <= bound);
    series.counts[index < 0 ? buckets.length : index]!++;
    series.sum += seconds;
    this.durations.set(known, series);
  }

  /** In Prometheus' text format. */
  lines(): string[] {
    const calls = [...this.ended.values()].map(
      ({ command, code, count }) => `twill_cni_calls_total{command="${command}",code="${code}"} ${count}`,
    );
    const durations = [...this.durations].flatMap(([command, { counts, sum }]) => {
      let total = 0;
      const name = 'twill_cni_call_duration_seconds';
      const cumulative = counts.map((count, index) => {
        total += count;
        return `${name}_bucket{command="${command}",le="${buckets[index] ?? '+Inf'}"} ${total}`;
      });
      const labels = `{command="${command}"}`;
      return [...cumulative, `${name}_sum${labels} ${sum}`, `${name}_count${labels} ${total}`];
    });
    return [
      '# HELP twill_cni_calls_total CNI calls by command and error code of the specification, 0 for success.',
      '# TYPE twill_cni_calls_total counter',
      ...calls,
      '# HELP twill_cni_call_duration_seconds Time from a CNI call to its answer.',
      '# TYPE twill_cni_call_duration_seconds histogram',
      ...durations,
    ];
  }
}

/** How many pod addresses are in use and free, by family; free only while the node has a subnet. */
export function addressLines(records: readonly PodRecord[], state: PodNetworkState): string[] {
  const used = { ipv4: 0, ipv6: 0 };
  for (const address of records.flatMap(addressesOf)) used[address.includes(':') ? 'ipv6' : 'ipv4']++;
  const families = state.ready ? state.network.families : [];
  return [
    '# HELP twill_cni_addresses Pod addresses of this node by state.',
    '# TYPE twill_cni_addresses gauge',
    ...families.flatMap((network) => {
      const { name, kubeName } = network.family;
      const free = Number(capacity(network)) - used[name];
      const line = (what: string, count: number): string =>
        `twill_cni_addresses{ip_family="${kubeName}",state="${what}"} ${count}`;
      return [line('used', used[name]), line('free', Math.max(0, free))];
    }),
    '# HELP twill_cni_attachments Pod interfaces that stand.',
    '# TYPE twill_cni_attachments gauge',
    `twill_cni_attachments ${records.length}`,
  ];
}
