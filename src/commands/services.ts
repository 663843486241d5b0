import type { Command } from 'commander';
import type { InspectFlags } from '../inspect/output.ts';
import { inspection } from './inspection.ts';

/** `twill services [NAME]`: what the proxy serves, and by which rules. */
export function addServicesCommand(program: Command): void {
  inspection(
    program,
    'services',
    'show the Services of this node; with a name, its endpoints and the rules that implement it',
    '0 all are reached, 1 some are not (no ready endpoint, say), 3 could not look, or there is no such Service',
  )
    .argument('[name]', 'namespace/name, or the name of one in namespace default')
    .addHelpText(
      'after',
      `
PORTS are PORT:NODEPORT/PROTOCOL, ENDPOINTS how many are ready, and how many of these are on this node. With a name the
rules are those that stand in the kernel, in the order in which a packet meets them, with the packets that each has
matched. While the proxy does not answer, its source of Services is asked.

Examples:
  twill services
  twill services kube-system/kube-dns
  twill services -o json | jq '.services[] | select(.trouble)'`,
    )
    .action(async (name: string | undefined, flags: InspectFlags) => {
      const { showServices } = await import('../inspect/services.ts');
      await showServices(name, flags);
    });
}
