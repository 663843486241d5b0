/** What is known of one family's rules. Times are of a clock that is never set. */
interface FamilyHealth {
  /** When the oldest change came that is not in the rules; undefined when all are. */
  oldestPending: number | undefined;
  /** When they last stood as they should. */
  lastWritten: number | undefined;
}

/**
 * kube-proxy's rule (pkg/proxy/healthcheck/proxy_health.go): a proxy is healthy unless a change of some family waits for
 * longer than the time-out. Unlike there, also one of the time before rules stood for the first time: who can never write
 * any is not healthy.
 */
export class RulesHealth {
  private readonly timeoutMs: number;
  private readonly families: ReadonlyMap<string, FamilyHealth>;

  /** @param families their names, as Kubernetes writes them */
  constructor(families: readonly string[], timeoutMs: number) {
    this.timeoutMs = timeoutMs;
    this.families = new Map(
      families.map((name) => [name, { oldestPending: undefined, lastWritten: undefined }]),
    );
  }

  /** There is something to write. */
  queued(family: string, now: number): void {
    const health = this.families.get(family);
    if (health !== undefined) health.oldestPending ??= now;
  }

  /** The rules are as they should be. @param more changes came while they were written */
  written(family: string, now: number, more: boolean): void {
    const health = this.families.get(family);
    if (health === undefined) return;
    health.lastWritten = now;
    health.oldestPending = more ? now : undefined;
  }

  /** By family; milliseconds since the rules were last as they should be, undefined when they never were. */
  status(
    now: number,
  ): ReadonlyMap<string, { readonly healthy: boolean; readonly sinceMs: number | undefined }> {
    return new Map(
      [...this.families].map(([name, { oldestPending, lastWritten }]) => [
        name,
        {
          healthy: oldestPending === undefined || now - oldestPending < this.timeoutMs,
          sinceMs: lastWritten === undefined ? undefined : now - lastWritten,
        },
      ]),
    );
  }
}
