import { TwillError } from '../model/error.ts';
import { run } from './process.ts';

/**
 * What `nft list table` prints; undefined when there is no such table.
 * @throws TwillError `missing-program`, `kernel`
 */
export async function listNftTable(
  family: { readonly nft: string },
  name: string,
): Promise<string | undefined> {
  const result = await run('nft', ['--stateless', 'list', 'table', family.nft, name]);
  if (result.status === 0) return result.stdout;
  if (/No such file or directory/.test(result.stderr)) return undefined;
  throw new TwillError('kernel', `nft list table ${family.nft} ${name} failed: ${result.stderr.trim()}`);
}

/** @returns false when there is no such table @throws TwillError `missing-program`, `kernel` */
export async function removeNftTable(family: { readonly nft: string }, name: string): Promise<boolean> {
  const result = await run('nft', ['delete', 'table', family.nft, name]);
  if (result.status === 0) return true;
  if (/No such file or directory/.test(result.stderr)) return false;
  throw new TwillError('kernel', `nft delete table ${family.nft} ${name} failed: ${result.stderr.trim()}`);
}

/**
 * Applies a document in one transaction.
 * @param how `check`: only asks whether it could be; `netns`: name of a network namespace, of a test
 * @throws TwillError `invalid` with nft's message, `missing-program`
 */
export async function applyNft(
  document: string,
  { netns, check = false }: { readonly netns?: string | undefined; readonly check?: boolean } = {},
): Promise<void> {
  const command = ['nft', ...(check ? ['-c'] : []), '-f', '-'];
  const [program, ...args] = netns === undefined ? command : ['ip', 'netns', 'exec', netns, ...command];
  const result = await run(program!, args, { input: document });
  if (result.status === 0) return;
  const detail = result.stderr.trim();
  const code = /Operation not permitted/.test(detail) ? 'permission' : 'invalid';
  throw new TwillError(code, `nft refused the rules: ${detail}`);
}
