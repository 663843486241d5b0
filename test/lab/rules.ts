/** Checks on iptables documents that hold for every one of them. */

const targets = new Set([
  ...['ACCEPT', 'DROP', 'RETURN', 'REJECT', 'DNAT', 'MASQUERADE', 'MARK'],
  ...['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING'],
]);

/** @throws Error when a rule is in, or leads to, a chain that its table does not declare */
export function checkReferences(document: string): void {
  let chains = new Set<string>();
  for (const line of document.split('\n')) {
    if (line.startsWith('*')) chains = new Set();
    else if (line.startsWith(':')) chains.add(line.slice(1, line.indexOf(' ')));
    else if (/^-[AI] /.test(line)) {
      const [, inChain] = line.split(' ');
      const target = / -[jg] (\S+)/.exec(line)?.[1];
      for (const name of [inChain!, target]) {
        if (name !== undefined && !chains.has(name) && !targets.has(name)) {
          throw new Error(`chain ${name} is missing: ${line}`);
        }
      }
    }
  }
}
