import { isExternal, type ServicePortEntry } from './table.ts';

export interface MissingCounts {
  readonly internal: number;
  readonly external: number;
}

/** Service ports with policy Local that have endpoints, but none on this node, by the policy's kind. */
export class MissingLocal {
  private readonly services = new Map<string, MissingCounts>();

  setService(key: string, entries: readonly ServicePortEntry[]): void {
    const missing = entries.filter((entry) => entry.hasEndpoints && entry.localBackends.length === 0);
    const internal = missing.filter((entry) => entry.internalLocal).length;
    const external = missing.filter((entry) => entry.externalLocal && isExternal(entry)).length;
    if (internal + external > 0) this.services.set(key, { internal, external });
    else this.services.delete(key);
  }

  get counts(): MissingCounts {
    let [internal, external] = [0, 0];
    for (const service of this.services.values()) {
      internal += service.internal;
      external += service.external;
    }
    return { internal, external };
  }
}
