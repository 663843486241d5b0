/** What stands and what should stand, to the one iptables-restore document that leads from the first to the second. */
import { asWritten } from './counters.ts';
import { isOwnChain, type Jump, type Table, tables } from './names.ts';
import type { Chains } from './ruleset.ts';

/** One table as iptables-save printed it: our chains, and the rules of the built-in ones. */
export interface InstalledTable {
  readonly chains: Chains;
  /** Rules (after `-A CHAIN `) of chains that are not ours, by chain. */
  readonly others: ReadonlyMap<string, readonly string[]>;
}

const tracked = new Set(['KUBE-FIREWALL']);
/** Chains in which rules count. */
const counting = new Set(['KUBE-FORWARD', 'KUBE-POSTROUTING']);
const builtIn = new Set(['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING']);

/** Reads what iptables-save printed for one table. */
export function parseSaved(text: string): InstalledTable {
  const chains: Chains = new Map();
  const others = new Map<string, string[]>();
  let at = 0;
  while (at < text.length) {
    let end = text.indexOf('\n', at);
    if (end === -1) end = text.length;
    if (text.startsWith(':', at)) {
      const name = text.slice(at + 1, text.indexOf(' ', at));
      if (isOwnChain(name) || tracked.has(name)) chains.set(name, '');
    } else if (text.startsWith('-A ', at)) {
      const space = text.indexOf(' ', at + 3);
      const name = text.slice(at + 3, space === -1 || space > end ? end : space);
      if (chains.has(name)) {
        // The rules of one chain stand together: take them in one piece.
        end = endOfChain(text, end, `-A ${name} `);
        const old = chains.get(name)!;
        const piece = text.slice(at, end);
        const rules = counting.has(name) ? asWritten(piece) : piece;
        chains.set(name, old === '' ? rules : `${old}\n${rules}`);
      } else if (builtIn.has(name)) {
        const rules = others.get(name) ?? [];
        rules.push(text.slice(space + 1, end));
        others.set(name, rules);
      }
    }
    at = end + 1;
  }
  return { chains, others };
}

function endOfChain(text: string, firstEnd: number, append: string): number {
  let end = firstEnd;
  while (text.startsWith(append, end + 1)) {
    const next = text.indexOf('\n', end + 1);
    end = next === -1 ? text.length : next;
  }
  return end;
}

/** Rules to put in front of, or take out of, built-in chains. */
export interface JumpChanges {
  readonly missing: readonly Jump[];
  /** Second copies of a jump, and such as must not stand. */
  readonly surplus: readonly Jump[];
}

/**
 * Compares the jumps that should stand in a table with its built-in chains' rules.
 * @param retired jumps that must not stand any more
 */
export function compareJumps(
  table: Table,
  wanted: readonly Jump[],
  installed: InstalledTable,
  retired: readonly Jump[] = [],
): JumpChanges {
  const missing: Jump[] = [];
  const surplus: Jump[] = [];
  const late = new Set(wanted.filter(({ early }) => early === undefined).map(({ rule }) => rule));
  for (const jump of wanted) {
    if (jump.table !== table) continue;
    const rules = installed.others.get(jump.chain) ?? [];
    const first = rules.indexOf(jump.rule);
    const misplaced =
      jump.early === true && rules.slice(0, Math.max(0, first)).some((rule) => late.has(rule));
    const right = misplaced ? 0 : 1;
    if (first < 0 || misplaced) missing.push(jump);
    for (let extra = right; extra < copiesOf(jump, rules); extra++) surplus.push(jump);
  }
  for (const jump of retired)
    if (jump.table === table)
      for (let copy = 0; copy < copiesOf(jump, installed.others.get(jump.chain) ?? []); copy++)
        surplus.push(jump);
  return { missing, surplus };
}

function copiesOf(jump: Jump, rules: readonly string[]): number {
  return rules.filter((rule) => rule === jump.rule).length;
}

export interface TableChange {
  readonly table: Table;
  /** Chains to write anew, with their rules. */
  readonly write: readonly (readonly [chain: string, text: string])[];
  /** Number of rules in these: counting them takes a walk through all the text. */
  readonly rules: number;
  readonly remove: readonly string[];
  readonly jumps: JumpChanges;
}

/** The change that makes `names` of a table stand as `desired` says. */
export function tableChange(
  table: Table,
  names: Iterable<string>,
  state: { readonly desired: Chains; readonly installed: Chains },
  jumps: JumpChanges = { missing: [], surplus: [] },
): TableChange {
  const write: [string, string][] = [];
  const remove: string[] = [];
  let rules = 0;
  for (const name of names) {
    const text = state.desired.get(name);
    const standing = state.installed.get(name);
    if (text === standing) continue;
    if (text !== undefined) {
      write.push([name, text]);
      rules += ruleCount(text);
    } else if (isOwnChain(name)) remove.push(name);
  }
  return { table, write, rules, remove, jumps };
}

/** True when there is nothing to write. */
export function isEmpty(change: TableChange): boolean {
  return (
    change.write.length + change.remove.length + change.jumps.missing.length + change.jumps.surplus.length ===
    0
  );
}

/** Number of rules in a chain's text. */
export function ruleCount(text: string): number {
  if (text === '') return 0;
  let count = 1;
  for (let at = text.indexOf('\n'); at !== -1; at = text.indexOf('\n', at + 1)) count++;
  return count;
}

/** By how many entries x_tables counts a table larger after the change: rules, and two for every chain. */
export function addedEntries(change: TableChange, installed: Chains): number {
  const entries = (text: string | undefined): number => (text === undefined ? 0 : ruleCount(text) + 2);
  const { write, rules, jumps } = change;
  let added = rules + 2 * write.length + jumps.missing.length - jumps.surplus.length;
  for (const one of write) added -= entries(installed.get(one[0]));
  for (const name of change.remove) added -= entries(installed.get(name));
  return added;
}

const jumpToOwn = ' -j KUBE-';

/** Calls `visit` with each of our chains that rules lead to: where they do, that is the end of the line. */
export function eachTarget(text: string, visit: (chain: string) => void): void {
  for (let at = text.indexOf(jumpToOwn); at !== -1; at = text.indexOf(jumpToOwn, at)) {
    const end = text.indexOf('\n', at);
    const target = text.slice(at + ' -j '.length, end === -1 ? text.length : end);
    visit(target);
    if (end === -1) return;
    at = end;
  }
}

/** Chains in the order in which a packet comes to them, so that the kernel's memory is laid out as it is walked. */
export function inWalkingOrder(write: TableChange['write']): TableChange['write'] {
  const byName = new Map(write);
  const ordered: [string, string][] = [];
  const visit = (name: string): void => {
    const text = byName.get(name);
    if (text === undefined) return;
    byName.delete(name);
    ordered.push([name, text]);
    eachTarget(text, visit);
  };
  visit('KUBE-SERVICES');
  for (const one of write) visit(one[0]);
  return ordered;
}

/**
 * The document for `iptables-restore --noflush`; empty text when there is nothing to do. Each table is one transaction:
 * chains are declared (and emptied) first, then filled, then jumps are set, then emptied chains that nothing refers to
 * any more are deleted.
 */
export function renderDocument(changes: readonly TableChange[]): string {
  let document = '';
  for (const table of tables) {
    const change = changes.find((candidate) => candidate.table === table);
    if (change !== undefined && !isEmpty(change)) document += `*${table}\n${renderTable(change)}COMMIT\n`;
  }
  return document;
}

/** A table's part of a document without its first and last line: several can stand between these. */
export function renderTable(change: TableChange): string {
  const lines: string[] = [];
  // iptables-nft keeps chains sorted by name: given in that order, adding ten thousand is not quadratic.
  const declared = [...change.write.map((one) => one[0]), ...change.remove].sort();
  for (const chain of declared) lines.push(`:${chain} - [0:0]`);
  for (const one of inWalkingOrder(change.write)) if (one[1] !== '') lines.push(one[1]);
  for (const { chain, rule } of change.jumps.surplus) lines.push(`-D ${chain} ${rule}`);
  // Each goes to the front, so the last one written stands first.
  for (const { chain, rule } of [...change.jumps.missing].reverse()) lines.push(`-I ${chain} ${rule}`);
  for (const chain of change.remove) lines.push(`-X ${chain}`);
  return lines.length === 0 ? '' : `${lines.join('\n')}\n`;
}

/**
 * The document that removes every chain of ours from a table, with all rules of built-in chains that lead there; empty
 * text when there is none. KUBE-FIREWALL stays: it is the kubelet's too.
 */
export function renderRemoval(table: string, installed: InstalledTable): string {
  const chains = [...installed.chains.keys()].filter(isOwnChain).sort();
  const jumps = [...installed.others].flatMap(([chain, rules]) =>
    rules
      .filter((rule) => isOwnChain(/ ?-[jg] (\S+)$/.exec(rule)?.[1] ?? ''))
      .map((rule) => `-D ${chain} ${rule}`),
  );
  if (chains.length + jumps.length === 0) return '';
  const declared = chains.map((chain) => `:${chain} - [0:0]`);
  const deleted = chains.map((chain) => `-X ${chain}`);
  return [`*${table}`, ...declared, ...jumps, ...deleted, 'COMMIT', ''].join('\n');
}
