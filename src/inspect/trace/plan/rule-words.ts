import { ruleWords } from '../../../model/rule-words.ts';

/** A rule as iptables-save prints it, taken apart word by word. */
export class RuleWords {
  private readonly words: readonly string[];
  private at = 0;

  constructor(text: string) {
    this.words = ruleWords(text);
  }

  get done(): boolean {
    return this.at >= this.words.length;
  }

  peek(): string | undefined {
    return this.words[this.at];
  }

  next(): string {
    return this.words[this.at++] ?? '';
  }

  /** Takes the word if it comes next. */
  take(word: string): boolean {
    if (this.words[this.at] !== word) return false;
    this.at++;
    return true;
  }

  /** All words up to the next match or target: what belongs to a module that nothing is known of. */
  unknown(): string[] {
    const found: string[] = [];
    while (!this.done && !/^-([mjgsdpio])$/.test(this.peek()!)) found.push(this.next());
    return found;
  }

  /** All that is left. */
  rest(): string[] {
    const found = this.words.slice(this.at);
    this.at = this.words.length;
    return found;
  }
}
