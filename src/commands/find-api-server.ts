import type { Command } from 'commander';
import type { FindServerFlags } from '../kubernetes/find-server.ts';

/** `twill find-api-server`: what the DaemonSets' init containers run. */
export function addFindApiServerCommand(program: Command): void {
  program
    .command('find-api-server')
    .description(
      "take the API server's address, and nothing else, from the kubeconfig of this node's kubelet",
    )
    .option('--host-root <directory>', "where the node's files are", '/')
    .option('--output <file>', 'kubeconfig to write, for --kubelet-kubeconfig', '/run/twill-api/kubeconfig')
    .action(async (flags: FindServerFlags) => {
      const { findApiServer } = await import('../kubernetes/find-server.ts');
      findApiServer(flags);
    });
}
