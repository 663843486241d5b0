// 1,000 endpoints a second come in the place of others: how long each takes to be in the kernel, which tells of it itself.

import { NETLINK_NETFILTER } from '../../src/kernel/netlink/constants.ts';
import { EventSocket } from '../../src/kernel/netlink/events.ts';
import { NFNLGRP_NFTABLES, parseElements, parseNotice } from '../../src/kernel/netlink/nftables.ts';
import { packAddress } from '../../src/services/nftables/plan/pack.ts';
import type { KubeApi } from '../lab/kube-api.ts';
import { benchSlice, endpointAddress } from '../lab/many-services.ts';
import { pause } from './proxy-kernel.ts';

const CHANGES_A_SECOND = 1000;
const SECONDS = 30;
const TICK_MS = 5;
/** Numbers of endpoints that nobody else has. */
const FIRST_ENDPOINT = 1_000_000;
const LAST_WAIT_MS = 120_000;

export interface Churn {
  readonly changes: number;
  /** From the API's event until the kernel told of the element, milliseconds. */
  readonly medianMs: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

/** @param values milliseconds, in any order */
export function quantile(values: readonly number[], part: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))]!;
}

/** Each Service has one more endpoint than before, of which the address changes again and again. */
export async function churn(api: KubeApi, services: number): Promise<Churn> {
  /** By Service: what is not in the kernel yet, oldest first. */
  const waiting = new Map<number, { readonly address: string; readonly at: number }[]>();
  const serviceOf = new Map<string, number>();
  const lags: number[] = [];
  let lost = 0;
  const events = new EventSocket({
    protocol: NETLINK_NETFILTER,
    groups: [NFNLGRP_NFTABLES],
    onEvent: (message) => {
      const now = performance.now();
      if (parseNotice(message).set !== 'endpoints-tcp') return;
      for (const { data } of parseElements(message.payload)) {
        const address = data?.slice(0, 4) ?? '';
        const service = serviceOf.get(address);
        if (service === undefined) continue;
        const all = waiting.get(service)!;
        // One that came and went before rules were written never stands: what came after it does.
        const done = all.splice(0, all.findIndex((one) => one.address === address) + 1);
        for (const one of done) {
          serviceOf.delete(one.address);
          lags.push(now - one.at);
        }
      }
    },
    onLost: () => lost++,
  });
  const change = (count: number): void => {
    const endpoint = FIRST_ENDPOINT + count;
    // Far from each other, and each again when the others have had their turn.
    const service = (count * 7919) % services;
    const address = packAddress(endpointAddress(endpoint));
    serviceOf.set(address, service);
    const one = { address, at: performance.now() };
    const all = waiting.get(service);
    if (all === undefined) waiting.set(service, [one]);
    else all.push(one);
    api.put(benchSlice(service, [endpoint]));
  };
  try {
    const start = performance.now();
    let done = 0;
    while (done < CHANGES_A_SECOND * SECONDS) {
      const due = Math.min(
        CHANGES_A_SECOND * SECONDS,
        Math.floor(((performance.now() - start) * CHANGES_A_SECOND) / 1000),
      );
      while (done < due) change(done++);
      await pause(TICK_MS);
    }
    for (const end = performance.now() + LAST_WAIT_MS; serviceOf.size > 0 && performance.now() < end; )
      await pause(TICK_MS);
  } finally {
    events.close();
  }
  if (lost > 0) throw new Error('the kernel told of more changes than could be read');
  if (serviceOf.size > 0) throw new Error(`${serviceOf.size} of the changes did not come into the rules`);
  return {
    changes: lags.length,
    medianMs: quantile(lags, 0.5),
    p99Ms: quantile(lags, 0.99),
    maxMs: quantile(lags, 1),
  };
}
