import { run } from '../../kernel/process.ts';
import { detectVariant } from '../../kernel/used-iptables.ts';
import { ipv4 } from '../../model/address.ts';
import { describeError, isTwillError } from '../../model/error.ts';
import { bad, good, type PreflightCheck, poor } from '../plan/preflight.ts';

/** Says what a program is; undefined where it is not there. */
async function versionOf(program: string): Promise<string | undefined> {
  try {
    const { status, stdout } = await run(program, ['--version'], { timeoutMs: 5000 });
    return status === 0 ? stdout.trim().split('\n')[0] : undefined;
  } catch (error) {
    if (isTwillError(error, 'missing-program')) return undefined;
    throw error;
  }
}

/** Rules as agent and proxy write them, tried in a namespace of their own. */
const rules = `*nat
:TWILL-TRY - [0:0]
-A TWILL-TRY -p tcp -m comment --comment "try" -m statistic --mode random --probability 0.5 -j DNAT --to-destination 192.0.2.1:80
-A POSTROUTING -m mark --mark 0x4000/0x4000 -j MASQUERADE --random-fully
-A POSTROUTING -m conntrack --ctstate DNAT -j RETURN
COMMIT
`;

async function variantCheck(variant: 'nft' | 'legacy'): Promise<PreflightCheck | undefined> {
  const program = `iptables-${variant}`;
  const version = await versionOf(program);
  if (version === undefined) return undefined;
  const { status, stderr } = await run('unshare', ['--net', `${program}-restore`], { input: rules });
  if (status === 0) return good('tools', program, version);
  const detail = `${version} does not take the rules of Services: ${stderr.trim().split('\n')[0] ?? ''}`;
  return poor(
    'tools',
    program,
    detail,
    'load the modules xt_statistic, xt_comment, xt_conntrack, xt_MASQUERADE',
  );
}

/** The programs that agent and proxy start. */
export async function toolChecks(): Promise<PreflightCheck[]> {
  const variants = (await Promise.all([variantCheck('nft'), variantCheck('legacy')])).filter(
    (one) => one !== undefined,
  );
  const found: PreflightCheck[] = [...variants];
  if (!variants.some(({ state }) => state === 'ok'))
    found.push(
      bad('tools', 'iptables', 'neither variant of iptables works', 'install iptables 1.8 or newer'),
    );
  else {
    const { variant, why } = await detectVariant(ipv4);
    found.push(good('tools', 'variant in use', `${variant}: ${why}`));
  }
  const nft = await versionOf('nft').catch((error: unknown) => describeError(error));
  found.push(
    nft === undefined
      ? poor(
          'tools',
          'nft',
          'is not there',
          'install nftables for EnableNFTables, --vxlan-peers-only and --proxy-mode=nftables',
        )
      : good('tools', 'nft', nft),
  );
  return found;
}
