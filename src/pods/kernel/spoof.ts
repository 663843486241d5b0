import { applyNft, listNftTable } from '../../kernel/nft.ts';
import { coalesce } from '../../process/coalesce.ts';
import type { Log } from '../../process/log.ts';
import type { PodRecord } from '../plan/pod.ts';
import { spoofDocument, spoofTable, spoofTableText } from '../plan/spoof.ts';
import type { PodRepairs } from '../repairs.ts';

const bridgeFamily = { nft: 'bridge' } as const;

/** Keeps the rules against forged source MACs. Nothing is asked of nft while no pod wants them. */
export class SpoofGuard {
  /** Makes the rules equal to the records'. */
  readonly sync: () => Promise<void>;
  private readonly records: () => readonly PodRecord[];
  private readonly log: Log;
  private readonly repairs: PodRepairs;
  /** What was written last, and how nft prints it. */
  private written: { readonly text: string | undefined; readonly shown: string | undefined } | undefined;

  constructor(records: () => readonly PodRecord[], log: Log, repairs: PodRepairs) {
    this.records = records;
    this.log = log;
    this.repairs = repairs;
    this.sync = coalesce(() => this.write());
  }

  /** True when the rules that should stand do. */
  async isWhole(): Promise<boolean> {
    const text = spoofTableText(this.records());
    if (text === undefined && this.written?.text === undefined) return true;
    return (
      this.written?.text === text && (await listNftTable(bridgeFamily, spoofTable)) === this.written?.shown
    );
  }

  private async write(): Promise<void> {
    const text = spoofTableText(this.records());
    if (await this.isWhole()) return;
    if (this.written?.text === text) {
      this.repairs.rules++;
      this.log.warn('rules against forged MACs put right');
    }
    await applyNft(spoofDocument(text));
    this.written = { text, shown: await listNftTable(bridgeFamily, spoofTable) };
  }
}
