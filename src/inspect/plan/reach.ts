import type { Address } from '../../model/address.ts';
import type { RouteEntry } from '../../overlay/plan/entries.ts';
import type { DeviceNames } from './entries.ts';

/** The kernel's answer to a question for a way. */
export interface Answer {
  readonly device: number;
  readonly local: boolean;
  readonly gateway: Address | undefined;
}

/** The answer in words. */
export function describeWay(answer: Answer | undefined, names: DeviceNames): string {
  if (answer === undefined) return 'unreachable';
  if (answer.local) return 'taken for an address of this node';
  const via = answer.gateway === undefined ? '' : `via ${answer.gateway.text} `;
  return `${via}dev ${names.get(answer.device) ?? answer.device}`;
}

/** True where packets go the way that the route says. */
export function isExpected(route: RouteEntry, answer: Answer | undefined): boolean {
  return (
    answer !== undefined &&
    !answer.local &&
    answer.device === route.device &&
    answer.gateway?.text === route.gateway?.text
  );
}
