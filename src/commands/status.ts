import type { Command } from 'commander';
import type { InspectFlags } from '../inspect/output.ts';
import { inspection } from './inspection.ts';

/** `twill status`: is it healthy, and why not. */
export function addStatusCommand(program: Command): void {
  inspection(
    program,
    'status',
    'say whether this node is healthy, and why not',
    '0 healthy, 1 degraded, 2 down, 3 could not look',
  )
    .addHelpText(
      'after',
      `
The first line is the verdict with its first reason. Below are all problems (down: the node's pods have no network;
degraded: something is not as it should be; note: worth knowing), each with the command that shows it; then the lease, the
interface, the MTU and why each was chosen, the other nodes, the proxy, what was put right, versions, and when each loop
last succeeded. It asks agent and proxy, and the kernel; while one does not answer it goes by what that wrote down last.

Examples:
  twill status
  twill status --watch
  twill status -o json | jq -r .summary`,
    )
    .action(async (flags: InspectFlags) => {
      const { showStatus } = await import('../inspect/status.ts');
      await showStatus(flags);
    });
}
