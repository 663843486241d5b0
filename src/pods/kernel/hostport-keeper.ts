import type { Check } from '../../model/health.ts';
import type { PodRecord } from '../plan/pod.ts';

/** What a keeper tells. */
export interface HostPortHooks {
  /** Others have changed the rules. */
  readonly broken: () => void;
  /** What they had changed was put right, or is about to be. */
  readonly repaired: () => void;
}

/** Keeps the host ports of one family with one of the tools. */
export interface HostPortKeeper {
  /** Makes the rules equal to the records'. */
  ensure(records: readonly PodRecord[]): Promise<void>;
  /** @throws TwillError `kernel` when the rules that stand are not those that were made, or have to be */
  check(records: readonly PodRecord[]): Promise<void>;
  /** The next {@link ensure} reads or writes the rules, whatever is known of them. */
  doubt(): void;
  /** What somebody should look at. */
  warnings(): Check[];
  close(): void;
}
