import { type Command, Option } from 'commander';
import type { PodsFlags } from '../inspect/pods.ts';
import { inspection } from './inspection.ts';

/** `twill pods`: the attachments this node's agent has made. */
export function addPodsCommand(program: Command): void {
  inspection(
    program,
    'pods',
    'show the pods of this node: addresses, devices, host ports, limits',
    '0 all are wired as they should be, 1 some are not, 3 could not look',
  )
    .addOption(new Option('--cni-socket <path>', 'former name of --socket').hideHelp())
    .addHelpText(
      'after',
      '\nWhile the agent is away, the pods are those of its records.\n\nExamples:\n  twill pods\n  twill pods -o json',
    )
    .action(async (flags: PodsFlags) => {
      const { showPods } = await import('../inspect/pods.ts');
      await showPods(flags);
    });
}
