import type { Lease } from '../leases/plan/lease.ts';
import type { Family } from '../model/address.ts';
import type { Check } from '../model/health.ts';
import { monotonicMs } from '../process/clock.ts';
import { guarded } from '../process/guarded.ts';
import { type Log, LogLimiter } from '../process/log.ts';
import { ReconcileLoop } from '../process/loop.ts';
import { askInFamily } from './asking.ts';
import { Counts } from './counts.ts';
import { conclude, isBad, isBroken, isUncertain } from './plan/conclusion.ts';
import {
  type MeshPath,
  type MeshPlace,
  type MeshView,
  mayAsk,
  ownPlaces,
  partnerNames,
  placesOf,
} from './plan/places.ts';
import { type Asked, gotThrough, newPartner, noteAsked, type PartnerRecord } from './plan/record.ts';
import { passMs, Schedule } from './plan/schedule.ts';
import { meshFindings, sentenceOf } from './plan/sentences.ts';
import { type MeshPartner, type MeshState, partnerState } from './plan/state.ts';
import { FLOOD_MS, Responder } from './responder.ts';

export interface MeshOptions {
  /** UDP port at which all nodes answer. */
  readonly port: number;
  readonly intervalMs: number;
  readonly log: Log;
  /** What is known of the nodes; undefined while this one has no lease. */
  readonly view: () => MeshView | undefined;
}

const LONGEST_TIMEOUT_MS = 2000;
/** How often it is looked whether an address has come or gone (a bridge comes with the first pod). */
const RESYNC_MS = 3000;

/** Kernels send one sender no more than a refusal (ICMP) a second, and a question goes by two paths. */
const REFUSED_SECONDS = 3;

const nowSeconds = (): number => Math.round(monotonicMs() / 1000);

type Records = Partial<Record<Family['name'], PartnerRecord>>;

/** Measures whether, and how well, other nodes are reached by underlay and overlay, and answers when they do. */
export class Mesh {
  /** Keeps the sockets at which others are answered. */
  readonly loop: ReconcileLoop;
  private readonly options: MeshOptions;
  private readonly timeoutMs: number;
  private readonly schedule: Schedule;
  private readonly responder: Responder;
  private readonly limiter = new LogLimiter();
  private readonly records = new Map<string, Records>();
  private readonly asking = new Set<string>();
  private readonly counts: Record<MeshPath, Counts> = { underlay: new Counts(), overlay: new Counts() };
  private timer: NodeJS.Timeout | undefined;
  private stopped = false;
  /** Changes with what is concluded. */
  changes = 0;

  constructor(options: MeshOptions) {
    this.options = options;
    const { port, intervalMs, log, view } = options;
    this.timeoutMs = Math.min(LONGEST_TIMEOUT_MS, intervalMs);
    this.schedule = new Schedule(intervalMs, Math.random);
    this.responder = new Responder({
      port,
      log,
      mayAsk: ({ path, family }, from) => {
        const known = view();
        return known !== undefined && mayAsk(known, path, family, from);
      },
      largest: () => view()?.largest ?? 0,
      onFlood: (place) => this.flooded(place),
    });
    this.loop = new ReconcileLoop({
      name: 'mesh',
      log,
      work: () => this.serve(),
      resyncMs: RESYNC_MS,
      backoffMs: { first: 1000, longest: 10_000 },
    });
  }

  /** Begins to answer and to ask. */
  start(): void {
    this.loop.trigger('start');
    this.wait();
  }

  async stop(): Promise<void> {
    this.stopped = true;
    clearTimeout(this.timer);
    await this.loop.stop();
    this.responder.close();
  }

  private async serve(): Promise<void> {
    const view = this.options.view();
    await this.responder.serve(view === undefined ? [] : ownPlaces(view));
  }

  private flooded({ address }: MeshPlace): void {
    const { port, log } = this.options;
    const place = `${address.text} port ${port}`;
    if (this.limiter.allow(place) !== undefined)
      log.warn({ place }, 'too much comes here that no node sends: not answered for a second');
    setTimeout(() => this.loop.trigger('after a flood'), FLOOD_MS).unref();
  }

  private wait(): void {
    if (this.stopped) return;
    const next = guarded(this.options.log, 'asking a node', () => {
      this.wait();
      this.turn();
    });
    this.timer = setTimeout(next, this.schedule.delayMs());
  }

  private turn(): void {
    const view = this.options.view();
    if (view === undefined) return;
    const name = this.schedule.next(() => this.begin(view), monotonicMs());
    if (name === undefined || this.asking.has(name) || this.refusedLately(name)) return;
    const lease = view.leases.get(name);
    if (lease === undefined) {
      this.forget(name);
      return;
    }
    this.asking.add(name);
    const done = guarded(this.options.log, 'asking a node', async () => {
      try {
        await this.askNode(lease, view);
      } finally {
        this.asking.delete(name);
      }
    });
    done();
  }

  private refusedLately(name: string): boolean {
    return Object.values(this.records.get(name) ?? {}).some(
      ({ underlay, overlay, at }) =>
        (underlay.refused || overlay.refused) && nowSeconds() - at < REFUSED_SECONDS,
    );
  }

  /** A pass begins: nodes that are gone are forgotten. @returns the names of all others */
  private begin(view: MeshView): string[] {
    const names = partnerNames(view);
    const known = new Set(names);
    for (const name of this.records.keys()) if (!known.has(name)) this.forget(name);
    return names;
  }

  private forget(name: string): void {
    if (this.records.delete(name)) this.changes++;
    this.schedule.forget(name);
  }

  private async askNode(lease: Lease, view: MeshView): Promise<void> {
    const own = ownPlaces(view).filter((place) => this.responder.serves(place));
    const how = { port: this.options.port, timeoutMs: this.timeoutMs };
    const asked = await Promise.all(
      view.families.map(async (family) => ({
        family,
        asked: await askInFamily(lease, family, view, own, how),
      })),
    );
    if (this.stopped || !view.leases.has(lease.name)) return;
    for (const { family, asked: result } of asked)
      if (result !== undefined) this.note(lease, family, view, result);
    const records = Object.values(this.records.get(lease.name) ?? {});
    const ill = records.some((record) => isBad(conclude(record)));
    const state = records.some(isUncertain) ? 'doubtful' : ill ? 'ill' : 'well';
    this.schedule.asked(lease.name, state, monotonicMs());
  }

  private note(lease: Lease, family: Family, view: MeshView, asked: Asked): void {
    const places = placesOf(lease, family, view.backend);
    if (places === undefined) return;
    for (const path of ['underlay', 'overlay'] as const) {
      const reply = asked[path];
      if (reply !== undefined) this.counts[path].note(reply);
    }
    const records = this.records.get(lease.name) ?? {};
    const identity = `${places.underlay.text} ${places.overlay.text}`;
    const known = records[family.name];
    const before = known?.identity === identity ? known : newPartner(identity);
    const after = noteAsked(before, asked, nowSeconds());
    records[family.name] = after;
    this.records.set(lease.name, records);
    const [was, is] = [conclude(before), conclude(after)];
    if (was === is) return;
    this.changes++;
    const through = asked.overlay !== undefined && gotThrough(asked.overlay);
    this.tell(lease, family, view, isBroken(was) && through && !isBroken(is));
  }

  private tell(lease: Lease, family: Family, view: MeshView, again: boolean): void {
    const { log } = this.options;
    const partner = this.partner(lease, family, view);
    if (partner === undefined || (!isBroken(partner.conclusion) && !again)) return;
    const { name, family: of, conclusion } = partner;
    if (this.limiter.allow(`${name} ${of} ${conclusion}`) === undefined) return;
    if (again) log.info({ node: name, family: of }, 'a node is reached by the overlay again');
    else log.warn({ node: name, family: of }, sentenceOf(partner) ?? conclusion);
  }

  private partner(lease: Lease, family: Family, view: MeshView): MeshPartner | undefined {
    const record = this.records.get(lease.name)?.[family.name];
    const places = placesOf(lease, family, view.backend);
    if (record === undefined || places === undefined) return undefined;
    const { name } = lease;
    const [underlayAddress, overlayAddress] = [places.underlay.text, places.overlay.text];
    return partnerState({ name, family: family.name, underlayAddress, overlayAddress }, record, nowSeconds());
  }

  /** What was measured of the other nodes, in the order of their leases. */
  partners(): MeshPartner[] {
    const view = this.options.view();
    if (view === undefined) return [];
    const found: MeshPartner[] = [];
    for (const name of this.records.keys()) {
      const lease = view.leases.get(name);
      for (const family of lease === undefined ? [] : view.families) {
        const partner = this.partner(lease!, family, view);
        if (partner !== undefined) found.push(partner);
      }
    }
    return found;
  }

  state(): MeshState {
    const { port, intervalMs, view } = this.options;
    const known = view();
    const conclusions: Partial<Record<MeshPartner['conclusion'], number>> = {};
    for (const records of this.records.values())
      for (const record of Object.values(records)) {
        const conclusion = conclude(record);
        conclusions[conclusion] = (conclusions[conclusion] ?? 0) + 1;
      }
    const nodes = this.schedule.size;
    return {
      port,
      intervalSeconds: intervalMs / 1000,
      passSeconds: passMs(nodes, intervalMs) / 1000,
      nodes,
      families: (known?.families ?? []).map(({ kubeName }) => kubeName),
      answersAt: known === undefined ? [] : this.responder.at(ownPlaces(known)),
      problem: this.loop.status().lastError,
      counts: { underlay: this.counts.underlay.state(), overlay: this.counts.overlay.state() },
      answered: this.responder.answered,
      passedOver: this.responder.passedOver,
      conclusions,
    };
  }

  /** What somebody should look at; none of it makes this node unready. */
  warnings(): Check[] {
    const backend = this.options.view()?.backend;
    const vxlanPort = backend?.type === 'vxlan' ? backend.port : undefined;
    const checks = meshFindings(this.partners(), vxlanPort)
      .filter(({ severity }) => severity === 'warning')
      .map(({ what }): Check => ({ name: 'mesh', state: 'warning', detail: what }));
    const { lastError } = this.loop.status();
    return lastError === undefined
      ? checks
      : [...checks, { name: 'mesh', state: 'warning', detail: lastError }];
  }
}
