/** What a program prints, as it comes; of much of it the first and the last lines are kept. */
export class Output {
  private readonly head: Buffer[] = [];
  private readonly tail: Buffer[] = [];
  private headBytes = 0;
  private tailBytes = 0;
  private readonly most: number;
  /** Bytes that came. */
  received = 0;

  /** @param most bytes that are kept: a quarter of them from the beginning */
  constructor(most = Number.POSITIVE_INFINITY) {
    this.most = most;
  }

  push(chunk: Buffer): void {
    this.received += chunk.length;
    const headRoom = this.most / 4 - this.headBytes;
    if (headRoom > 0) {
      const part = chunk.subarray(0, headRoom);
      this.head.push(part);
      this.headBytes += part.length;
      if (part.length < chunk.length) this.keep(chunk.subarray(part.length));
    } else this.keep(chunk);
  }

  text(): string {
    if (this.received === this.headBytes + this.tailBytes)
      return Buffer.concat([...this.head, ...this.tail]).toString();
    const [head, tail] = [Buffer.concat(this.head), Buffer.concat(this.tail)];
    const first = head.subarray(0, head.lastIndexOf(10) + 1);
    const last = tail.subarray(tail.indexOf(10) + 1);
    return `${first}… ${this.received - first.length - last.length} bytes left out …\n${last}`;
  }

  private keep(chunk: Buffer): void {
    this.tail.push(chunk);
    this.tailBytes += chunk.length;
    while (this.tailBytes - this.tail[0]!.length > (this.most * 3) / 4)
      this.tailBytes -= this.tail.shift()!.length;
  }
}
