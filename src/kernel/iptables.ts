import type { Readable } from 'node:stream';
import type { Family } from '../model/address.ts';
import { isTwillError, TwillError } from '../model/error.ts';
import { ruleWords } from '../model/rule-words.ts';
import { kernelFamilies } from './ipv6.ts';
import { type RunResult, refusalCode, run } from './process.ts';

/** Which of the two kernel interfaces the iptables tools speak: nf_tables or the older x_tables. */
export type IptablesVariant = 'nft' | 'legacy';

/** Text in, text out: the only way Twill changes iptables. One call is one transaction. */
export interface Iptables {
  readonly family: Family;
  readonly variant: IptablesVariant;
  /**
   * The document `iptables-save -t TABLE` prints; with counters as `[0:0]` only on chains.
   * @throws TwillError `conflict` when iptables-nft cannot print a rule of the table, which somebody has written with nft:
   *   what cannot be read is not empty; `not-found` where the kernel has no such tables, `permission`, `kernel`
   */
  save(table: string): Promise<string>;
  /**
   * The lines `iptables -t TABLE -S CHAIN` prints (`-N` or `-P`, then `-A`), undefined when there is no such chain: a
   * read that stays cheap however many rules other chains have.
   * @throws TwillError `conflict` as {@link save}, when such a rule is in that chain; the others as there
   */
  list(table: string, chain: string): Promise<string[] | undefined>;
  /** Whether a rule stands, also in a chain that cannot be printed. @param rule as printed, with `-A CHAIN` in front */
  has(table: string, rule: string): Promise<boolean>;
  /** Whether program and kernel have the match with these options; asked without writing anything. */
  understands(match: string): Promise<boolean>;
  /** The names of a table's chains, also of one that cannot be printed; undefined when there is no way to tell. */
  chains(table: string): Promise<string[] | undefined>;
  /**
   * Applies an iptables-restore document without flushing chains it does not name. One that comes as a stream is read
   * while it is made; a table whose COMMIT does not come is not changed.
   * @throws TwillError `invalid` with iptables' message when the document is refused (nothing was changed),
   *   `timeout` when another program held the lock too long
   */
  restore(document: string | Readable): Promise<void>;
}

const LOCK_WAIT_SECONDS = 5;

/**
 * With x_tables a change reads and writes the whole table, some 20 MB at ten thousand Services: large pages spare the
 * thousands of page faults that are a fifth of its time (glibc.malloc.hugetlb, since glibc 2.35; others ignore it).
 */
function largePages(): NodeJS.ProcessEnv {
  const tunables = [process.env.GLIBC_TUNABLES, 'glibc.malloc.hugetlb=1', 'glibc.malloc.top_pad=33554432'];
  return { ...process.env, GLIBC_TUNABLES: tunables.filter((one) => one !== undefined).join(':') };
}

const builtInChains = new Set(['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING']);

/** What the programs say where the kernel has no such tables, or the part of it that they speak to is not there. */
const notInKernel = /Table does not exist|generation id: Invalid argument|Protocol not supported/;

/** RESOURCE_PROBLEM: the lock was not got (legacy), or the transaction raced (nft). */
const IN_USE = 4;

function refused(what: string, { status, stderr }: RunResult): TwillError {
  const refusal = notInKernel.test(stderr) ? 'not-found' : refusalCode(stderr);
  const code = refusal === 'kernel' && status === IN_USE ? 'timeout' : refusal;
  return new TwillError(code, `${what} failed: ${stderr.trim()}`);
}

class IptablesProgram implements Iptables {
  readonly family: Family;
  readonly variant: IptablesVariant;
  private readonly program: string;
  private readonly namespace: string | undefined;

  constructor(family: Family, variant: IptablesVariant, namespace: string | undefined) {
    this.family = family;
    this.variant = variant;
    this.program = `${family.iptables}-${variant}`;
    this.namespace = namespace;
  }

  async save(table: string): Promise<string> {
    const [program, args] = this.command(`${this.program}-save`, ['-t', table]);
    const result = await run(program, args);
    if (result.status !== 0) throw refused(`${this.program}-save -t ${table}`, result);
    const text = result.stdout;
    // Said with status 0.
    if (text.length < 500 && /is incompatible/.test(text)) throw this.unreadable(`table ${table}`);
    return text;
  }

  private unreadable(what: string): TwillError {
    const advice = 'rules written with nft belong in a table of their own';
    return new TwillError(
      'conflict',
      `${what} (${this.family.name}) holds rules that ${this.program} cannot print: ${advice}`,
    );
  }

  private command(program: string, args: string[]): [program: string, args: string[]] {
    return this.namespace === undefined
      ? [program, args]
      : ['ip', ['netns', 'exec', this.namespace, program, ...args]];
  }

  async list(table: string, chain: string): Promise<string[] | undefined> {
    const result = await run(...this.command(this.program, [...this.lockWait(), '-t', table, '-S', chain]));
    if (result.status === 0) return result.stdout.split('\n').filter((line) => line !== '');
    // Also said of a chain that is not there.
    if (/incompatible/.test(result.stderr)) {
      if (!(await this.hasChain(table, chain))) return undefined;
      throw this.unreadable(`chain ${chain} of table ${table}`);
    }
    if (/No chain\/target\/match|does not exist/.test(result.stderr)) return undefined;
    throw refused(`${this.program} -t ${table} -S ${chain}`, result);
  }

  /** No matter whether the rule stands that it asks for: one that leads to a chain that is not there is refused. */
  private async hasChain(table: string, chain: string): Promise<boolean> {
    if (builtInChains.has(chain)) return true;
    const { stderr } = await run(...this.command(this.program, ['-t', table, '-C', 'OUTPUT', '-j', chain]));
    return !/No chain\/target\/match|does not exist|Couldn't load target/.test(stderr);
  }

  /** iptables-nft has no lock of its own; legacy waits for /run/xtables.lock, also to read. */
  private lockWait(): string[] {
    return this.variant === 'legacy' ? ['-w', String(LOCK_WAIT_SECONDS)] : [];
  }

  async has(table: string, rule: string): Promise<boolean> {
    const args = [...this.lockWait(), '-t', table, ...ruleWords(rule.replace(/^-A /, '-C '))];
    const result = await run(...this.command(this.program, args));
    if (result.status === 0) return true;
    if (/matching rule|No chain\/target\/match|does not exist/.test(result.stderr)) return false;
    throw refused(`${this.program} ${args.join(' ')}`, result);
  }

  async understands(match: string): Promise<boolean> {
    // Of a table that is short: asking for a rule reads the whole of it.
    const args = ['-t', 'mangle', '-C', 'POSTROUTING', ...ruleWords(match), '-j', 'ACCEPT'];
    const result = await run(...this.command(this.program, args)).catch(() => undefined);
    if (result === undefined || /not supported|missing kernel module/.test(result.stderr)) return false;
    return result.status === 0 || /matching rule/.test(result.stderr);
  }

  async chains(table: string): Promise<string[] | undefined> {
    try {
      return Array.from((await this.save(table)).matchAll(/^:(\S+) /gm), ([, name]) => name!);
    } catch (error) {
      if (!isTwillError(error, 'conflict')) throw error;
    }
    const result = await run(...this.command('nft', ['list', 'table', this.family.nft, table])).catch(
      () => undefined,
    );
    if (result?.status !== 0) return undefined;
    return Array.from(result.stdout.matchAll(/^\tchain (\S+) \{/gm), ([, name]) => name!);
  }

  async restore(document: string | Readable): Promise<void> {
    const result = await run(...this.command(`${this.program}-restore`, [...this.lockWait(), '--noflush']), {
      input: document,
      ...(this.variant === 'legacy' ? { env: largePages() } : {}),
    });
    if (result.status === 0) return;
    const detail = result.stderr.trim();
    const code = result.status === IN_USE ? 'timeout' : /permission/i.test(detail) ? 'permission' : 'invalid';
    const [, chain] = /CHAIN_ADD failed \(Operation not supported\): chain (\S+)/.exec(detail) ?? [];
    const advice =
      chain === undefined
        ? ''
        : `; a chain ${chain} of another type, hook or priority than iptables' stands there, written with nft: see 'nft list chains ${this.family.nft}', and delete it`;
    throw new TwillError(code, `${this.program}-restore refused the rules: ${detail}${advice}`);
  }
}

/** The iptables of one family and variant in the current network namespace, or in the named one. */
export function openIptables(family: Family, variant: IptablesVariant, namespace?: string): Iptables {
  return new IptablesProgram(family, variant, namespace);
}

/** A rule with how many packets and bytes have matched it. */
export interface CountedRule {
  /** As `iptables -S` prints it. */
  readonly rule: string;
  readonly packets: number;
  readonly bytes: number;
}

/**
 * Rules with their counters; undefined when there is no such chain, or they cannot be printed.
 * @param chain undefined for all of the table
 */
export async function countedRules(
  family: Family,
  variant: IptablesVariant,
  table: string,
  chain: string | undefined,
): Promise<CountedRule[] | undefined> {
  const args = ['-t', table, '-v', '-S', ...(chain === undefined ? [] : [chain])];
  const { status, stdout } = await run(`${family.iptables}-${variant}`, args);
  if (status !== 0) return undefined;
  return stdout.split('\n').flatMap((line) => {
    const [, rule, packets, bytes] = /^(-A .*?) -c (\d+) (\d+)(?= |$)/.exec(line) ?? [];
    if (rule === undefined) return [];
    // With a target the counters stand before it.
    const rest = line.slice(`${rule} -c ${packets} ${bytes}`.length);
    return [{ rule: rule + rest, packets: Number(packets), bytes: Number(bytes) }];
  });
}

/** Every family and variant that the kernel could have rules of; programs may be missing for some. */
export function everyIptables(): Iptables[] {
  const variants: readonly IptablesVariant[] = ['nft', 'legacy'];
  return kernelFamilies().flatMap((family) => variants.map((variant) => openIptables(family, variant)));
}
