/** The words of a rule as iptables-save prints it: quotes hold one together. */
export function ruleWords(rule: string): string[] {
  return Array.from(rule.matchAll(/"((?:[^"\\]|\\.)*)"|(\S+)/g), ([, quoted, word]) =>
    quoted === undefined ? word! : quoted.replace(/\\(.)/g, '$1'),
  );
}

/** Words as part of a line that iptables-restore reads. None may hold a control character: nothing else ends a line. */
export function ruleText(words: readonly string[]): string {
  return words
    .map((word) => (/^[\w!.,:/@%+=-]+$/.test(word) ? word : `"${word.replace(/["\\]/g, '\\$&')}"`))
    .join(' ');
}

/** Whether a rule of a chain, as iptables prints it, lets nothing past. */
export function refusesAll(line: string): boolean {
  return /^-A \S+ (-m comment --comment ("[^"]*"|\S+) )?-j (DROP|REJECT)\b/.test(line);
}
