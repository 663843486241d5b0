import type { Command } from 'commander';

/** `twill proxy`: flags as kube-proxy has them. */
export function addProxyCommand(program: Command): void {
  program.command('proxy').description('run the service proxy: Services to iptables rules');
}
