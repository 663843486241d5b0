/** A validating stand-in for the kernel's rules: takes iptables-restore documents, refuses what the kernel would refuse. */

const targets = new Set(['ACCEPT', 'DROP', 'RETURN', 'REJECT', 'DNAT', 'MASQUERADE', 'MARK']);
const builtIn: Readonly<Record<string, readonly string[]>> = {
  nat: ['PREROUTING', 'INPUT', 'OUTPUT', 'POSTROUTING'],
  filter: ['INPUT', 'FORWARD', 'OUTPUT'],
};

export type SimulatedTable = Map<string, string[]>;

function target(rule: string): string | undefined {
  return / ?-[jg] (\S+)/.exec(rule)?.[1];
}

export class SimulatedIptables {
  readonly tables: Readonly<Record<string, SimulatedTable>> = {
    nat: new Map(builtIn.nat!.map((chain) => [chain, []])),
    filter: new Map(builtIn.filter!.map((chain) => [chain, []])),
  };

  /** @throws Error naming the line the kernel would refuse; chains changed so far stay changed */
  restore(document: string): void {
    let table: SimulatedTable = this.tables.nat!;
    for (const line of document.split('\n')) {
      if (line.startsWith('*')) table = this.tables[line.slice(1)]!;
      else if (line === 'COMMIT') this.check(table);
      else if (line !== '') this.apply(table, line);
    }
  }

  /** What iptables-save would print for a table, chains in order of name. */
  save(name: string): string {
    const chains = [...this.tables[name]!].sort(([a], [b]) => (a < b ? -1 : 1));
    const declared = chains.map(([chain]) => `:${chain} -`);
    const rules = chains.flatMap(([chain, lines]) => lines.map((line) => `-A ${chain} ${line}`));
    return [...declared, ...rules].join('\n');
  }

  private apply(table: SimulatedTable, line: string): void {
    const [verb, chain] = line.startsWith(':') ? [':', line.slice(1, line.indexOf(' '))] : line.split(' ', 2);
    if (verb === ':') {
      table.set(chain!, []);
      return;
    }
    const rules = table.get(chain!);
    if (rules === undefined) throw new Error(`no chain: ${line}`);
    const rule = line.slice(verb!.length + chain!.length + 2);
    if (verb !== '-X') this.checkTarget(table, chain!, rule);
    if (verb === '-A') rules.push(rule);
    else if (verb === '-I') rules.unshift(rule);
    else if (verb === '-X') {
      if (rules.length > 0) throw new Error(`chain is not empty: ${line}`);
      table.delete(chain!);
    } else throw new Error(`unexpected: ${line}`);
  }

  private check(table: SimulatedTable): void {
    for (const [chain, rules] of table) {
      for (const rule of rules) this.checkTarget(table, chain, rule);
    }
  }

  private checkTarget(table: SimulatedTable, chain: string, rule: string): void {
    const to = target(rule);
    if (to !== undefined && !targets.has(to) && !table.has(to))
      throw new Error(`no chain ${to}: -A ${chain} ${rule}`);
  }
}
