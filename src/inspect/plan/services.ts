import type { ServiceRow } from '../../services/plan/row.ts';
import type { ServiceRule } from './service-lines.ts';

/** What `twill services -o json` prints. */
export interface ServicesAnswer {
  readonly version: 1;
  /** Why the proxy has not said so, and its source was asked; undefined where it has. */
  readonly proxyAway: string | undefined;
  readonly services: readonly ServiceRow[];
}

/** An address behind a Service. */
export interface ShownEndpoint {
  readonly address: string;
  readonly ports: readonly { readonly name: string; readonly port: number; readonly protocol: string }[];
  readonly node: string | undefined;
  /** It is on this node. */
  readonly local: boolean;
  readonly ready: boolean;
  readonly serving: boolean;
  readonly terminating: boolean;
}

/** What `twill services NAME -o json` prints. */
export interface ServiceAnswer {
  readonly version: 1;
  readonly proxyAway: string | undefined;
  readonly mode: string;
  readonly service: ServiceRow;
  readonly endpoints: readonly ShownEndpoint[];
  /** As they stand in the kernel, in the order in which a packet meets them. */
  readonly rules: readonly ServiceRule[];
  /** False where rules of the proxy's mode cannot be read. */
  readonly rulesKnown: boolean;
}
