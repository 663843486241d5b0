import type { Command } from 'commander';
import type { InspectFlags } from '../inspect/output.ts';
import { inspection } from './inspection.ts';

/** `twill routes`: how this node gets to the others. */
export function addRoutesCommand(program: Command): void {
  inspection(
    program,
    'routes',
    'show how this node reaches the pods of each other node, and whether that stands in the kernel',
    '0 every node is reached as it should be, 1 some are not, 3 could not look',
  )
    .addHelpText(
      'after',
      `
A line for each other node: its pods' subnet, the node's own address, the MAC of its VXLAN device, our device to it.
ROUTE, HOP (nexthop object), NEIGH (neighbour entry) and FDB (forwarding entry) are ok, missing or wrong, - where none is
needed. FIRST POD is how the kernel says that it would send to the first pod there, or what is wrong.

Examples:
  twill routes
  twill routes --watch
  twill routes -o json | jq '.nodes[] | select(.troubles != [])'`,
    )
    .action(async (flags: InspectFlags) => {
      const { showRoutes } = await import('../inspect/routes.ts');
      await showRoutes(flags);
    });
}
