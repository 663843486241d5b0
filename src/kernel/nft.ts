import { families } from '../model/address.ts';
import { isTwillError, TwillError } from '../model/error.ts';
import { hindered, type Removal } from '../model/removal.ts';
import { refusalCode, run } from './process.ts';

/**
 * What nft says where there is no such table: also a kernel without nf_tables has none, on which only iptables-legacy works
 * (nfnetlink answers EINVAL for a subsystem that it does not have).
 */
export const noTable =
  /No such file or directory|cache initialization failed: Invalid argument|Protocol not supported/;

type Netns = { readonly netns?: string | undefined };

/** Runs nft. @param how `netns`: name of a network namespace, of a test */
function nft(
  args: readonly string[],
  { netns, ...options }: Netns & { readonly input?: string; readonly timeoutMs?: number } = {},
): ReturnType<typeof run> {
  const [program, ...rest] =
    netns === undefined ? ['nft', ...args] : ['ip', 'netns', 'exec', netns, 'nft', ...args];
  return run(program!, rest, options);
}

/** Only the program that has made a table with these flags may write into it. @param table family and name */
export function ownedTable(table: string): TwillError {
  const what = `nftables table ${table} has flags owner: another program that runs alone may change it`;
  return new TwillError('conflict', `${what}; end that program, and the table goes with it`);
}

/** Who may write everything, and not into one of these tables, is told why. */
async function explained(error: TwillError, document: string, how: Netns): Promise<TwillError> {
  if (error.code !== 'permission') return error;
  for (const table of tablesOf(document)) {
    const listed = await nft(['list', 'table', ...table.split(' ')], how).catch(() => undefined);
    if (/^\tflags [\w,]*\bowner\b/m.test(listed?.stdout ?? '')) return ownedTable(table);
  }
  return error;
}

function refused(what: string, stderr: string): TwillError {
  const code = passing.test(stderr) ? 'unavailable' : refusalCode(stderr);
  return new TwillError(code, `${what} failed: ${stderr.trim()}`);
}

/**
 * What `nft list table` prints; undefined when there is no such table.
 * @param how `handles`: with the numbers by which single rules can be deleted
 * @throws TwillError `missing-program`, `permission`, `kernel`
 */
export async function listNftTable(
  family: { readonly nft: string },
  name: string,
  { handles = false } = {},
): Promise<string | undefined> {
  const options = ['--stateless', ...(handles ? ['--handle'] : [])];
  const result = await nft([...options, 'list', 'table', family.nft, name]);
  if (result.status === 0) return result.stdout;
  if (noTable.test(result.stderr)) return undefined;
  throw refused(`nft list table ${family.nft} ${name}`, result.stderr);
}

/** @returns false when there is no such table @throws TwillError `missing-program`, `permission`, `conflict`, `kernel` */
export async function removeNftTable(family: { readonly nft: string }, name: string): Promise<boolean> {
  const result = await nft(['delete', 'table', family.nft, name]);
  if (result.status === 0) return true;
  if (noTable.test(result.stderr)) return false;
  const table = `${family.nft} ${name}`;
  throw await explained(refused(`nft delete table ${table}`, result.stderr), `table ${table}`, {});
}

/**
 * What takes a table away, if there is one. Without the program, or the kernel's part of it, there is none; one that cannot
 * be looked at is named.
 */
export async function nftTableRemovals(family: { readonly nft: string }, name: string): Promise<Removal[]> {
  const what = `nftables table ${family.nft} ${name} removed`;
  try {
    if ((await listNftTable(family, name)) === undefined) return [];
  } catch (error) {
    if (isTwillError(error, 'missing-program')) return [];
    if (!isTwillError(error, 'permission', 'kernel')) throw error;
    return [hindered(what, error)];
  }
  const apply = async (): Promise<void> => void (await removeNftTable(family, name));
  return [{ what, apply }];
}

/**
 * What the kernel, or what nft itself is short of, will pass: the same document may be taken a moment later. The words are
 * strerror's for EAGAIN, EINTR, ENOBUFS, ENOMEM, EMFILE, ENFILE; and a signal's. Of a rule ENFILE says that a set is full.
 */
const passing =
  /Resource temporarily unavailable|Interrupted system call|No buffer space available|Cannot allocate memory|Memory allocation|(?<!process rule: )Too many open files|No space left on device|killed by SIG|Broken pipe/;

/** Tables that a document writes into. */
function tablesOf(document: string): Set<string> {
  const written = /\b(?:table|chain|rule|set|map|element) ((?:ip6?|inet|bridge) [\w-]+)/g;
  return new Set([...document.matchAll(written)].map(([, table]) => table!));
}

/**
 * Applies a document in one transaction.
 * @param how `netns`: name of a network namespace, of a test
 * @throws TwillError `invalid` with nft's message, `unavailable` for what will pass, `permission`, `conflict` for another
 *   program's table, `missing-program`, `timeout`
 */
export async function applyNft(
  document: string,
  how: Netns & { readonly timeoutMs?: number } = {},
): Promise<void> {
  const result = await nft(['-f', '-'], { ...how, input: document });
  if (result.status === 0) return;
  const detail = result.stderr.trim();
  if (passing.test(detail)) throw new TwillError('unavailable', `nft could not write the rules: ${detail}`);
  const code = /Operation not permitted/.test(detail) ? 'permission' : 'invalid';
  const error = new TwillError(code, `nft refused the rules: ${detail}`);
  throw await explained(error, document, how);
}

/** A chain that iptables-nft makes for itself in a table, when it has to. */
const builtIn = /^\tchain [A-Z]+ \{\n\t\ttype \w+ hook \w+ priority [^;]+; policy accept;\n\t\}$/;

async function removeEmptyChain(family: string, table: string, text: string): Promise<string | undefined> {
  const name = `${family} ${table} ${/^\tchain (\S+)/.exec(text)?.[1]}`;
  const { status } = await nft(['delete', 'chain', ...name.split(' ')]);
  // Somebody has put a rule into it meanwhile.
  return status === 0 ? name : undefined;
}

/**
 * Removes the chains and tables that iptables-nft made and that hold nothing: they change nothing for any packet, and
 * whoever needs them makes them anew.
 * @returns what was removed
 */
export async function removeUnusedTables(): Promise<string> {
  const removed: string[] = [];
  for (const { nft } of families) {
    for (const name of ['raw', 'mangle', 'nat', 'filter']) {
      const text = await listNftTable({ nft }, name).catch((error: unknown) => {
        if (isTwillError(error, 'missing-program')) return undefined;
        throw error;
      });
      if (text === undefined) continue;
      const body = text
        .split('\n')
        .filter((line) => line !== '' && !line.startsWith('#'))
        .slice(1, -1)
        .join('\n');
      const chains = body === '' ? [] : body.split(/(?<=^\t\})\n/m);
      const empty = chains.filter((chain) => builtIn.test(chain));
      if (empty.length === chains.length) {
        if (await removeNftTable({ nft }, name)) removed.push(`${nft} ${name}`);
        continue;
      }
      const gone = await Promise.all(empty.map((chain) => removeEmptyChain(nft, name, chain)));
      removed.push(...gone.filter((one) => one !== undefined));
    }
  }
  return `chains and tables of iptables-nft that hold nothing any more: ${removed.join(', ') || 'none'}`;
}
