import { type Match, matching, type Rule, type Statement, type Table, type Verdict } from './chains.ts';
import { modules, options } from './iptables-matches.ts';
import { targetStatement } from './iptables-targets.ts';
import { RuleWords } from './rule-words.ts';

/** One table of `iptables-save -c`. Rules are read when a packet comes to their chain: most never are. */
export interface SavedTable extends Table {
  /** Policies of the built-in chains. */
  readonly policies: ReadonlyMap<string, Verdict>;
  /** Every chain with its rules as text, without `-A CHAIN `. */
  readonly lines: ReadonlyMap<string, readonly string[]>;
}

/** Matches of whole rules that a module we know nothing of decides. */
function unknownMatch(text: string): Statement {
  return matching((): Match => ({ unknown: `"${text}" matches, which this program does not understand` }));
}

function readMatches(words: RuleWords, isChain: (name: string) => boolean): Statement[] {
  const statements: Statement[] = [];
  while (!words.done) {
    const negated = words.take('!');
    const word = words.next();
    if (word === '-j' || word === '-g') {
      const name = words.next();
      const statement = targetStatement(name, words.rest(), isChain);
      statements.push(word === '-g' ? (state) => [{ kind: 'goto', chain: name, state }] : statement);
    } else if (word === '-m') {
      const name = words.next();
      const module = modules[name];
      if (module !== undefined) statements.push(module(words, negated));
      else if (!isKnown(name, words))
        statements.push(unknownMatch(['-m', name, ...words.unknown()].join(' ')));
    } else {
      const option = options[word];
      if (option !== undefined) statements.push(option(words, negated));
      else statements.push(unknownMatch([...(negated ? ['!'] : []), word, ...words.unknown()].join(' ')));
    }
  }
  return statements;
}

/** Modules that stand without options, and decide by the packet all the same. */
const selfWilled = new Set(['ah', 'dst', 'esp', 'frag', 'hbh', 'ipv6header', 'rpfilter', 'rt', 'socket']);

/** Whether what follows a module's name is an option of the table; modules may also stand without any. */
function isKnown(module: string, words: RuleWords): boolean {
  if (selfWilled.has(module)) return false;
  const word = words.peek();
  return word === undefined || word === '!' || /^-[a-z]$/.test(word) || options[word] !== undefined;
}

function commentOf(text: string): string | undefined {
  const match = /--comment (?:"((?:[^"\\]|\\.)*)"|(\S+))/.exec(text);
  return match === null ? undefined : (match[1]?.replace(/\\(.)/g, '$1') ?? match[2]);
}

/** @param counted the line as saved, with its counters where there are any, without `-A CHAIN ` */
function readRule(counted: string, isChain: (name: string) => boolean): Rule {
  const space = counted.indexOf(' ');
  const hasCount = counted.startsWith('[');
  const text = hasCount ? counted.slice(space + 1) : counted;
  return {
    text,
    comment: commentOf(text),
    packets: hasCount ? Number.parseInt(counted.slice(1), 10) : undefined,
    statements: readMatches(new RuleWords(text), isChain),
  };
}

class Saved implements SavedTable {
  readonly program: SavedTable['program'];
  readonly name: string;
  readonly policies = new Map<string, Verdict>();
  readonly lines = new Map<string, string[]>();
  private readonly read = new Map<string, readonly Rule[]>();
  private readonly isChain = (name: string): boolean => this.lines.has(name);

  constructor(program: SavedTable['program'], name: string) {
    this.program = program;
    this.name = name;
  }

  declare(line: string): void {
    const [name = '', policy = '-'] = line.slice(1).split(' ');
    this.lines.set(name, []);
    if (policy !== '-') this.policies.set(name, policy === 'DROP' ? 'drop' : 'accept');
  }

  append(line: string): void {
    // `[PACKETS:BYTES] -A CHAIN RULE`: taken apart by hand, of a hundred thousand most are never looked at.
    const command = line.indexOf('-A ');
    const end = line.indexOf(' ', command + 3);
    const chain = line.slice(command + 3, end < 0 ? line.length : end);
    const rule = `${line.slice(0, command)}${end < 0 ? '' : line.slice(end + 1)}`;
    const rules = this.lines.get(chain);
    if (rules === undefined) this.lines.set(chain, [rule]);
    else rules.push(rule);
  }

  rules = (chain: string): readonly Rule[] | undefined => {
    let rules = this.read.get(chain);
    const lines = this.lines.get(chain);
    if (rules === undefined && lines !== undefined) {
      rules = lines.map((line) => readRule(line, this.isChain));
      this.read.set(chain, rules);
    }
    return rules;
  };
}

/** The tables of what iptables-save prints, with or without `-c`. */
export function parseSavedTables(text: string, program: SavedTable['program']): SavedTable[] {
  const tables: Saved[] = [];
  for (const line of text.split('\n')) {
    if (line.startsWith('*')) tables.push(new Saved(program, line.slice(1)));
    else if (line.startsWith(':')) tables.at(-1)?.declare(line);
    else if (line.startsWith('[') || line.startsWith('-A ')) tables.at(-1)?.append(line);
  }
  return tables;
}
