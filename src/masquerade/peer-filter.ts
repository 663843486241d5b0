import { applyNft, listNftTable, removeNftTable } from '../kernel/nft.ts';
import { openRulesStamp, type RulesStamp } from '../kernel/rules-stamp.ts';
import { ipv4 } from '../model/address.ts';
import { Contest, contestedChecks } from '../model/contest.ts';
import { isTwillError, TwillError } from '../model/error.ts';
import type { Check } from '../model/health.ts';
import { monotonicMs } from '../process/clock.ts';
import type { Log } from '../process/log.ts';
import { ReconcileLoop } from '../process/loop.ts';
import { type PeerTable, peerDocument, peersTable, peerTableText, splitPeerTable } from './plan/peers.ts';

/** Least milliseconds between writes: a burst of new nodes becomes one. */
const COLLECT_MS = 100;

export interface PeerFilterOptions {
  readonly log: Log;
  /** Whether strangers are kept off at all; otherwise what an earlier run left is taken away, once. */
  readonly enabled: boolean;
  /** Milliseconds between looks whether somebody has written rules. */
  readonly resyncMs: number;
  /** The table that should stand; undefined where there is no VXLAN. */
  readonly wanted: () => PeerTable | undefined;
}

/** Keeps the table that drops what others than peers send to the node's VXLAN port (`--vxlan-peers-only`). */
export class PeerFilter {
  readonly loop: ReconcileLoop;
  readonly enabled: boolean;
  private readonly options: PeerFilterOptions;
  private readonly contest = new Contest();
  private stamp: RulesStamp | undefined;
  /** What was last found to stand, or written. */
  private written: PeerTable | undefined;
  /** The count of transactions at which it stood. */
  private seen: string | undefined;
  /** Versions of nft differ in how they print the same rules: what it shows for ours. */
  private shown: { readonly text: string; readonly as: string } | undefined;
  private gone = false;
  /** Times that the table had to be put right after it had stood. */
  repairs = 0;

  constructor(options: PeerFilterOptions) {
    this.options = options;
    this.enabled = options.enabled;
    this.loop = new ReconcileLoop({
      name: 'VXLAN peers',
      log: options.log,
      work: () => this.work(),
      minIntervalMs: COLLECT_MS,
      ...(options.enabled ? { resyncMs: options.resyncMs } : {}),
    });
  }

  /** The peers, or the network, have changed. */
  changed(reason: string): void {
    if (this.enabled) this.loop.trigger(reason);
  }

  async stop(): Promise<void> {
    await this.loop.stop();
    this.stamp?.close();
  }

  /** What somebody should look at, though the table may stand. */
  warnings(): Check[] {
    return contestedChecks(this.contest, monotonicMs());
  }

  private async work(): Promise<void> {
    const wanted = this.enabled ? this.options.wanted() : undefined;
    if (wanted === undefined) return this.remove();
    try {
      await this.ensure(wanted);
    } catch (error) {
      if (!isTwillError(error, 'missing-program')) throw error;
      const advice = 'strangers can send to the VXLAN port until nftables is installed';
      throw new TwillError('missing-program', `--vxlan-peers-only needs nft: ${advice}`, error);
    }
  }

  private async remove(): Promise<void> {
    if (this.gone) return;
    try {
      const removed = await removeNftTable(peersTable, peersTable.name);
      if (removed) this.options.log.info({ table: peersTable.name }, 'packets of strangers are taken again');
    } catch (error) {
      // Nothing of ours can stand then.
      if (!isTwillError(error, 'missing-program')) throw error;
    }
    this.gone = true;
    this.written = undefined;
    this.seen = undefined;
  }

  private async ensure(wanted: PeerTable): Promise<void> {
    this.stamp ??= openRulesStamp(ipv4, 'nft');
    const before = await this.stamp.read();
    const expected = this.written ?? wanted;
    const stands = before === this.seen || (await this.standsAs(expected));
    const document = peerDocument(stands ? expected : undefined, wanted);
    this.seen = undefined;
    if (document === undefined) {
      this.written = wanted;
      this.seen = before;
      return;
    }
    const repair = !stands && this.written !== undefined;
    if (repair && this.contest.wait(peersTable.name, monotonicMs()) > 0) return;
    await this.write(document, before, stands ? undefined : wanted);
    this.written = wanted;
    if (repair) this.repaired();
  }

  /** @param whole the table where the document writes all of it */
  private async write(document: string, before: string, whole: PeerTable | undefined): Promise<void> {
    const stamp = this.stamp!;
    this.gone = false;
    await applyNft(document);
    if (whole !== undefined)
      this.options.log.info(
        { table: peersTable.name, port: whole.port },
        'strangers are kept from the VXLAN port',
      );
    const after = await stamp.read();
    // What others changed at once must not pass for ours: it is looked at the next time.
    if (!stamp.explains(before, after, { transactions: 1, entries: 0 })) return;
    this.seen = after;
    if (whole === undefined) return;
    const text = await listNftTable(peersTable, peersTable.name);
    if (text === undefined || (await stamp.read()) !== after) return;
    this.shown = { text: peerTableText(whole), as: text };
  }

  private async standsAs(expected: PeerTable): Promise<boolean> {
    const text = await listNftTable(peersTable, peersTable.name);
    if (text === undefined) return false;
    const [standing, ours] = [splitPeerTable(text), splitPeerTable(peerTableText(expected))];
    if (standing.addresses !== ours.addresses) return false;
    if (standing.rest === ours.rest) return true;
    const { shown } = this;
    return (
      shown !== undefined &&
      splitPeerTable(shown.text).rest === ours.rest &&
      splitPeerTable(shown.as).rest === standing.rest
    );
  }

  private repaired(): void {
    this.repairs++;
    const { log } = this.options;
    const table = peersTable.name;
    log.warn({ table }, 'put rules right that somebody had changed');
    if (this.contest.note(table, monotonicMs()).begins)
      log.error({ table }, 'somebody changes these rules again and again: repairs wait from now on');
  }
}
