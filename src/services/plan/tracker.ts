import type { Family } from '../../model/address.ts';
import { type EndpointSlice, objectKey, type Service } from './service.ts';

/** One change as a source reports it; a key is `namespace/name`. */
export type ObjectChange =
  | { readonly kind: 'service'; readonly key: string; readonly value: Service | undefined }
  | { readonly kind: 'slice'; readonly key: string; readonly value: EndpointSlice | undefined };

/** What the tracker knows of one Service: either half may be missing. */
export interface ServiceState {
  readonly service: Service | undefined;
  readonly slices: readonly EndpointSlice[];
}

/** How many objects changed. */
export interface ChangeCounts {
  readonly serviceChanges: number;
  /** By the family of the slices, as Kubernetes names it. */
  readonly endpointChanges: Readonly<Record<string, number>>;
}

/** Counts as changes come. */
class Counter implements ChangeCounts {
  serviceChanges = 0;
  readonly endpointChanges: Record<string, number> = {};

  slice({ kubeName }: Family): void {
    this.endpointChanges[kubeName] = (this.endpointChanges[kubeName] ?? 0) + 1;
  }
}

/** Services that changed since the last {@link ServiceTracker.takeDirty}, and how many changes were told since. */
export interface DirtyServices extends ChangeCounts {
  readonly keys: ReadonlySet<string>;
  /** When the endpoints behind these changes changed, milliseconds since the epoch: once for each. */
  readonly triggers: readonly Trigger[];
}

/** A change of endpoints, of the time from which on the proxy can be asked how long it took. */
export interface Trigger {
  readonly family: Family;
  readonly at: number;
}

/**
 * The last known state of all Services and slices, and which Services to look at again. It does no I/O: sources feed
 * it, the sync loop asks it.
 */
export class ServiceTracker {
  private readonly services = new Map<string, Service>();
  private readonly slices = new Map<string, EndpointSlice>();
  /** Keys of the slices of each Service, by the Service's key. */
  private readonly slicesOf = new Map<string, Set<string>>();
  private dirty = new Set<string>();
  /** Every change that was told, as kube-proxy counts, whether it matters for rules or not. */
  private told = new Counter();
  /** Those that matter. */
  private waiting = new Counter();
  /** By slice. */
  private triggers = new Map<string, Trigger[]>();
  private readonly since: number;

  /** @param since changes before it, milliseconds since the epoch, are not the proxy's to be measured by */
  constructor(since = 0) {
    this.since = since;
  }

  get serviceCount(): number {
    return this.services.size;
  }

  /** Changes that rules wait for. */
  get pending(): ChangeCounts {
    return this.waiting;
  }

  apply(change: ObjectChange): void {
    if (change.kind === 'service') this.setService(change.key, change.value);
    else this.setSlice(change.key, change.value);
  }

  /** Makes the objects of one kind exactly these, as after a new list: those that are the same are no changes. */
  replace(kind: ObjectChange['kind'], values: readonly (Service | EndpointSlice)[]): void {
    const old = kind === 'service' ? this.services : this.slices;
    const gone = new Set(old.keys());
    for (const value of values) {
      const key = objectKey(value);
      gone.delete(key);
      if (!same(old.get(key), value)) this.apply({ kind, key, value } as ObjectChange);
    }
    for (const key of gone) this.apply({ kind, key, value: undefined });
  }

  keys(): Iterable<string> {
    return new Set([...this.services.keys(), ...this.slicesOf.keys()]);
  }

  /** The Service is to be looked at again. */
  touch(key: string): void {
    this.dirty.add(key);
  }

  /** Every Service is to be looked at again. */
  touchAll(): void {
    for (const key of this.keys()) this.dirty.add(key);
  }

  state(key: string): ServiceState {
    const names = [...(this.slicesOf.get(key) ?? [])].sort();
    return { service: this.services.get(key), slices: names.map((name) => this.slices.get(name)!) };
  }

  /** Hands over the changed keys and starts a new set. */
  takeDirty(): DirtyServices {
    const taken: DirtyServices = {
      keys: this.dirty,
      ...this.told,
      triggers: [...this.triggers.values()].flat(),
    };
    this.dirty = new Set();
    this.told = new Counter();
    this.waiting = new Counter();
    this.triggers = new Map();
    return taken;
  }

  private setService(key: string, value: Service | undefined): void {
    const old = this.services.get(key);
    if (old === undefined && value === undefined) return;
    this.told.serviceChanges++;
    if (value !== undefined && same(old, value)) return;
    this.waiting.serviceChanges++;
    if (value === undefined) this.services.delete(key);
    else this.services.set(key, value);
    this.dirty.add(key);
  }

  private setSlice(key: string, value: EndpointSlice | undefined): void {
    const old = this.slices.get(key);
    const { family } = value ?? old ?? {};
    if (family === undefined) return;
    this.told.slice(family);
    if (value !== undefined && same(old, value)) return;
    this.waiting.slice(family);
    const oldOwner = old && `${old.namespace}/${old.service}`;
    const owner = value && `${value.namespace}/${value.service}`;
    if (oldOwner !== undefined && oldOwner !== owner) {
      const names = this.slicesOf.get(oldOwner)!;
      names.delete(key);
      if (names.size === 0) this.slicesOf.delete(oldOwner);
    }
    if (value === undefined) this.slices.delete(key);
    else {
      this.slices.set(key, value);
      if (!this.slicesOf.has(owner!)) this.slicesOf.set(owner!, new Set());
      this.slicesOf.get(owner!)!.add(key);
    }
    this.trigger(key, value, old);
    for (const touched of [oldOwner, owner]) if (touched !== undefined) this.dirty.add(touched);
  }

  /** Of a slice that is gone, nobody waits for what it was to be. */
  private trigger(key: string, value: EndpointSlice | undefined, old: EndpointSlice | undefined): void {
    if (value === undefined) this.triggers.delete(key);
    if (value?.changedAt === undefined || value.changedAt === old?.changedAt) return;
    if (value.changedAt < this.since) return;
    const trigger = { family: value.family, at: value.changedAt };
    this.triggers.set(key, [...(this.triggers.get(key) ?? []), trigger]);
  }
}

/**
 * Same in everything that matters for rules (a slice's change time does not). Every change of an object is compared: walking
 * through both takes a tenth of the time that two texts of them take.
 */
function same(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return false;
  if (Array.isArray(a) || Array.isArray(b)) {
    if (!Array.isArray(a) || !Array.isArray(b)) return false;
    return a.length === b.length && a.every((one, index) => same(one, b[index]));
  }
  const names = Object.keys(a);
  return (
    names.length === Object.keys(b).length &&
    names.every((name) => name === 'changedAt' || same(a[name as never], b[name as never]))
  );
}
