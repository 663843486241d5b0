import type { Command } from 'commander';

/** `twill agent`: flags and FLANNELD_* environment variables as flanneld has them. */
export function addAgentCommand(program: Command): void {
  program.command('agent').description('run the per-node agent: leases, overlay, CNI server');
}
