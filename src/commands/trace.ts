import { type Command, Option } from 'commander';
import type { TraceFlags } from '../inspect/trace/trace.ts';
import { inspection } from './inspection.ts';

/** `twill trace`: the way of a packet through all that stands in the kernel. */
export function addTraceCommand(program: Command): void {
  inspection(
    program,
    'trace',
    'show the way of a packet, and of its answer, through rules, routes and devices as they stand in the kernel',
    '0 it arrives by every way, 1 it dies by some, 2 that depends on what is not understood or could not be read, 3 could not look',
  )
    .argument('<from>', 'a pod, the node, an address, or "outside"')
    .argument('<to>', 'a pod, Service, node or address, with ":PORT" behind it; or "outside"')
    .addOption(
      new Option('--protocol <protocol>', 'tcp unless the Service has another').choices([
        'tcp',
        'udp',
        'sctp',
      ]),
    )
    .option('--from-address <address>', 'source address of the packet, instead of the one that FROM has')
    .option('--probe', 'open a real connection from there, too (over UDP, send one datagram), and compare')
    .addHelpText(
      'after',
      `
Pods are written as namespace/name, by the name alone where only one has it, or by the beginning of their container's
id, Services as namespace/name (or so) with ":PORT" or ":NAME" of a port behind it, the node as "node" or by its name.
pod/ or svc/ in front says which is meant. Nothing is changed, and without --probe nothing is sent. Where a probe did
otherwise the exit status is 2. What is on other nodes is not seen: a packet that leaves is followed to the device and
the next machine.

Examples:
  twill trace shop/client shop/web:80
  twill trace node 10.96.0.10:53 --protocol udp
  twill trace outside node:30080 --from-address 198.51.100.7
  twill trace shop/client shop/web --probe
  twill trace shop/client outside:443 -o json`,
    )
    .action(async (from: string, to: string, flags: TraceFlags) => {
      const { showTrace } = await import('../inspect/trace/trace.ts');
      await showTrace(from, to, flags);
    });
}
