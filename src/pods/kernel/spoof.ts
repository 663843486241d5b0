import { applyNft, listNftTable } from '../../kernel/nft.ts';
import { TwillError } from '../../model/error.ts';
import { coalesce } from '../../process/coalesce.ts';
import type { Log } from '../../process/log.ts';
import { KeyedLock } from '../keyed-lock.ts';
import type { PodRecord } from '../plan/pod.ts';
import { spoofDocument, spoofTable, spoofTableText } from '../plan/spoof.ts';
import type { PodRepairs } from '../repairs.ts';

const bridgeFamily = { nft: 'bridge' } as const;

/** Keeps the rules against forged source MACs. Nothing is asked of nft while no pod wants them. */
export class SpoofGuard {
  /** Makes the rules equal to the records'. */
  readonly sync: () => Promise<void>;
  /** As {@link sync}, when a pod that wanted rules is gone: those that stand may be an earlier process's. */
  readonly forget: () => Promise<void>;
  private readonly records: () => readonly PodRecord[];
  private readonly log: Log;
  private readonly repairs: PodRepairs;
  private readonly lock = new KeyedLock();
  /** What was written last, and how nft prints it. */
  private written: { readonly text: string | undefined; readonly shown: string | undefined } | undefined;

  constructor(records: () => readonly PodRecord[], log: Log, repairs: PodRepairs) {
    this.records = records;
    this.log = log;
    this.repairs = repairs;
    this.sync = coalesce(() => this.lock.run('rules', () => this.write(false)));
    this.forget = coalesce(() => this.lock.run('rules', () => this.write(true)));
  }

  /** @throws TwillError `kernel` when the rules that stand are not those that were written */
  check(): Promise<void> {
    return this.lock.run('rules', async () => {
      if (this.written === undefined) await this.write(false);
      if (await this.stands()) return;
      throw new TwillError(
        'kernel',
        `rules against forged MACs (table bridge ${spoofTable}) are missing or changed`,
      );
    });
  }

  private async stands(): Promise<boolean> {
    return (await listNftTable(bridgeFamily, spoofTable)) === this.written?.shown;
  }

  private async write(mayStand: boolean): Promise<void> {
    const text = spoofTableText(this.records());
    if (text === undefined && this.written?.text === undefined && (this.written !== undefined || !mayStand))
      return;
    if (this.written !== undefined && this.written.text === text) {
      if (await this.stands()) return;
      this.repairs.rules++;
      this.log.warn('rules against forged MACs put right');
    }
    await applyNft(spoofDocument(text));
    this.written = { text, shown: await listNftTable(bridgeFamily, spoofTable) };
  }
}
