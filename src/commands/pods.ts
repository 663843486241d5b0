import { type Command, Option } from 'commander';
import type { PodsFlags } from '../inspect/pods.ts';
import { defaultSocket } from '../pods/plan/protocol.ts';

/** `twill pods`: the attachments this node's agent has made. */
export function addPodsCommand(program: Command): void {
  program
    .command('pods')
    .description('show the pods of this node: addresses, devices, host ports')
    .option('--cni-socket <path>', 'where the agent listens', defaultSocket)
    .addOption(
      new Option('-o, --output <format>', 'how to print').choices(['table', 'json']).default('table'),
    )
    .action(async (flags: PodsFlags) => {
      const { showPods } = await import('../inspect/pods.ts');
      await showPods(flags);
    });
}
