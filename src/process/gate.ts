import { TwillError } from '../model/error.ts';

/** Something that others wait for. */
export class Gate {
  private readonly name: string;
  private readonly waiting = new Set<() => void>();
  private isOpen = false;

  /** @param name what is waited for, as the subject of a sentence */
  constructor(name: string) {
    this.name = name;
  }

  open(): void {
    this.isOpen = true;
    for (const resolve of this.waiting) resolve();
    this.waiting.clear();
  }

  /** Resolves once it is open. @throws TwillError `unavailable` when that takes longer than `ms` */
  wait(ms: number): Promise<void> {
    if (this.isOpen) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.waiting.delete(done);
        reject(new TwillError('unavailable', `${this.name} do not stand yet`));
      }, ms);
      const done = (): void => {
        clearTimeout(timer);
        resolve();
      };
      this.waiting.add(done);
    });
  }
}
