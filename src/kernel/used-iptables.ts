import type { Family } from '../model/address.ts';
import { isTwillError, TwillError } from '../model/error.ts';
import { readFileIfPresent } from '../process/files.ts';
import { KernelRefusal } from './errno.ts';
import { type Iptables, type IptablesVariant, openIptables } from './iptables.ts';
import { type NftChain, standingNftChains } from './nft-tables.ts';
import { run } from './process.ts';

/** Chains of the kubelet's, whose presence shows which variant the node uses. */
const kubeletChains: readonly NftChain[] = [
  { table: 'mangle', chain: 'KUBE-IPTABLES-HINT' },
  { table: 'mangle', chain: 'KUBE-KUBELET-CANARY' },
];
/** Those, and kube-proxy's and flannel's. */
const hintChains: readonly NftChain[] = [
  ...kubeletChains,
  { table: 'nat', chain: 'KUBE-SERVICES' },
  { table: 'filter', chain: 'KUBE-SERVICES' },
  { table: 'nat', chain: 'FLANNEL-POSTRTG' },
  { table: 'nat', chain: 'CNI-HOSTPORT-DNAT' },
];
const hints = new RegExp(`^:(${hintChains.map(({ chain }) => chain).join('|')}) `, 'm');

/** The tables of iptables-legacy that there are in the namespace that this thread is in: asked for others, it makes them. */
export function legacyTables({ nft }: Pick<Family, 'nft'>): string[] {
  const names = readFileIfPresent(`/proc/thread-self/net/${nft}_tables_names`);
  return (names ?? '').split('\n').filter((name) => name !== '');
}

/** Whether there can be rules of the variant in the table. */
export function mayHaveTable(family: Family, variant: IptablesVariant, table: string): boolean {
  return variant === 'nft' || legacyTables(family).includes(table);
}

/** What a program prints; undefined where it does not work. One that hangs, or finds no descriptors, tells nothing: an error. */
async function printed(program: string, args: readonly string[] = []): Promise<string | undefined> {
  try {
    const { status, stdout } = await run(program, args);
    return status === 0 ? stdout : undefined;
  } catch (error) {
    if (isTwillError(error, 'missing-program', 'permission')) return undefined;
    throw error;
  }
}

/**
 * Which of the hints stand in nf_tables. The kernel is asked: iptables-nft reads all rules for it, which takes a second with
 * ten thousand Services, and cannot print every table.
 * @returns undefined where iptables-nft does not work
 */
async function nftHints(family: Family): Promise<readonly NftChain[] | undefined> {
  if ((await printed(`${family.iptables}-nft`, ['--version'])) === undefined) return undefined;
  try {
    return await standingNftChains(family, hintChains);
  } catch (error) {
    // Who may not ask, and a kernel that lacks it. What fails for the moment (ENOMEM) tells nothing.
    const lacks = error instanceof KernelRefusal && ['EINVAL', 'EOPNOTSUPP'].includes(error.errno);
    if (lacks || isTwillError(error, 'permission')) return undefined;
    throw error;
  }
}

/** The kubelet's chains are in table mangle, which is short: all tables may hold many thousands of rules. */
async function hasLegacyHint(family: Family): Promise<boolean> {
  if (!legacyTables(family).includes('mangle')) return false;
  return hints.test((await printed(`${family.iptables}-legacy-save`, ['-t', 'mangle'])) ?? '');
}

/**
 * The variant this node already uses: the one in which kubelet's, kube-proxy's or flannel's chains stand, else the
 * one with more rules, else the one the plain `iptables` command means.
 * @throws TwillError `missing-program` when iptables is not installed
 */
export async function detectVariant(family: Family): Promise<{ variant: IptablesVariant; why: string }> {
  const [standing, legacyHint] = await Promise.all([nftHints(family), hasLegacyHint(family)]);
  const nftHint = standing?.some((one) => kubeletChains.includes(one)) === true;
  if (nftHint !== legacyHint)
    return { variant: nftHint ? 'nft' : 'legacy', why: 'Kubernetes chains stand there' };
  if (standing !== undefined && standing.length > 0)
    return { variant: 'nft', why: 'Kubernetes or flannel chains stand there' };
  const [nft, legacy] = await Promise.all([
    standing && printed(`${family.iptables}-nft-save`),
    printed(`${family.iptables}-legacy-save`),
  ]);
  if (nft === undefined && legacy === undefined) {
    throw new TwillError(
      'missing-program',
      `neither ${family.iptables}-nft nor ${family.iptables}-legacy works: install iptables, or have the rules made with nft (--rules=nftables of the agent, --proxy-mode=nftables of the proxy)`,
    );
  }
  if (nft === undefined) return { variant: 'legacy', why: `${family.iptables}-nft does not work here` };
  if (legacy === undefined) return { variant: 'nft', why: `${family.iptables}-legacy does not work here` };
  if (hints.test(legacy)) return { variant: 'legacy', why: 'Kubernetes or flannel chains stand there' };
  const rules = (text: string): number => text.match(/^-A /gm)?.length ?? 0;
  if (rules(nft) > rules(legacy)) return { variant: 'nft', why: 'most rules stand there' };
  if (rules(legacy) > rules(nft)) return { variant: 'legacy', why: 'most rules stand there' };
  const version = await run(family.iptables, ['--version']).catch(() => undefined);
  const variant = version?.stdout.includes('legacy') ? 'legacy' : 'nft';
  return { variant, why: `${family.iptables} means it on this node` };
}

/** The iptables that this node uses; undefined where it can do no NAT. */
export async function usedIptables(family: Family): Promise<Iptables | undefined> {
  try {
    const { variant } = await detectVariant(family);
    const iptables = openIptables(family, variant);
    await iptables.list('nat', 'POSTROUTING').catch((error: unknown) => {
      // It can, though not be printed.
      if (!isTwillError(error, 'conflict')) throw error;
    });
    return iptables;
  } catch (error) {
    if (!isTwillError(error, 'missing-program', 'not-found', 'kernel', 'permission')) throw error;
    return undefined;
  }
}
