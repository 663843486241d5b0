import { mostPorts } from './names.ts';

/** The number that each Service port has; one that is given back is not given again soon. */
export class Serials {
  /** Who has it, by number. */
  readonly holders = new Map<number, string>();
  private next = 1;

  /** There is no room for so many more. */
  lacks(coming: number): boolean {
    return this.holders.size + coming > mostPorts;
  }

  /** @param wished the number that is given if it is free; 0 for none */
  take(holder: string, wished: number): number {
    let serial = wished !== 0 && !this.holders.has(wished) ? wished : 0;
    while (serial === 0) {
      if (!this.holders.has(this.next)) serial = this.next;
      this.next = this.next >= mostPorts ? 1 : this.next + 1;
    }
    this.holders.set(serial, holder);
    return serial;
  }

  release(serial: number): void {
    this.holders.delete(serial);
  }

  /** An earlier run has given it: those that nobody wishes for come from beyond it. */
  skip(serial: number): void {
    this.next = Math.max(this.next, serial + 1);
    if (this.next > mostPorts) this.next = 1;
  }
}
