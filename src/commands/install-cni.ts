import type { Command } from 'commander';
import type { InstallFlags } from '../pods/cni/install.ts';
import { defaultSocket } from '../pods/plan/protocol.ts';

/** `twill install-cni`: what the DaemonSet's init container runs. */
export function addInstallCniCommand(program: Command): void {
  program
    .command('install-cni')
    .description('install the CNI plugin and its configuration for the container runtime')
    .option('--cni-bin-dir <directory>', 'where the runtime looks for plugins', '/opt/cni/bin')
    .option('--cni-conf-dir <directory>', 'where the runtime looks for configurations', '/etc/cni/net.d')
    .option(
      '--cni-conf-name <file>',
      'name of the configuration; the first in order wins',
      '10-twill.conflist',
    )
    .option('--cni-conf <file>', 'configuration to install instead of the built-in one')
    .option('--cni-executable <file>', 'plugin to install (default: the one beside this program)')
    .option('--cni-socket <path>', 'where the agent listens, for the built-in configuration', defaultSocket)
    .option(
      '--executable-only',
      "leave the configuration to the agent's --install-cni-conf, which waits until pods can be wired",
    )
    .option(
      '--replace',
      'set configurations aside that sort first, under names that the runtime does not read',
    )
    .option('--restore', 'put those back and take this configuration away, instead of installing')
    .action(async (flags: InstallFlags) => {
      const { installCni } = await import('../pods/cni/install.ts');
      installCni(flags);
    });
}
