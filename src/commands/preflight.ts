import type { Command } from 'commander';
import type { PreflightFlags } from '../inspect/preflight.ts';
import { inspection } from './inspection.ts';

const collect = (value: string, earlier: string[] = []): string[] => [...earlier, value];

/** `twill preflight`: whether a node is fit. */
export function addPreflightCommand(program: Command): void {
  inspection(
    program,
    'preflight',
    'check whether this node is fit for Twill, before anything is installed or when something fails',
    '0 nothing failed (there may be warnings), 1 something did, 3 could not look',
  )
    .option('--peer <address>', 'address of another node, to try the path to it; may repeat', collect)
    .option('--network <cidr>', 'the pod network that is to be; may repeat', collect)
    .option('--cni-conf-dir <directory>', 'where the runtime looks for configurations', '/etc/cni/net.d')
    .addHelpText(
      'after',
      `
It changes nothing: what the kernel can do is tried in network namespaces of its own. Where an agent runs, its pod network
and the other nodes are known, and their VXLAN ports are tried, too.

Examples:
  twill preflight
  twill preflight --peer 192.0.2.12 --network 10.244.0.0/16`,
    )
    .action(async (flags: PreflightFlags) => {
      const { showPreflight } = await import('../inspect/preflight.ts');
      await showPreflight(flags);
    });
}
