import type { Command } from 'commander';
import type { DiffFlags } from '../inspect/diff.ts';
import { inspection } from './inspection.ts';

/** `twill diff`: what should be against what is. */
export function addDiffCommand(program: Command): void {
  inspection(
    program,
    'diff',
    'compare what should be with what is in the kernel: devices, routes, settings, rules, pods, Services',
    '0 nothing differs, 1 something does, 2 nothing differs of what could be compared, 3 could not look',
  )
    .option('--fix', 'have agent and proxy put it right at once, and show what is left')
    .addHelpText(
      'after',
      `
Each difference comes with the standard command that shows it. A missing object should be there, a wrong one should be
otherwise, a foreign one should not be there. While agent or proxy do not answer, what should be is what the agent wrote
down last, and what the proxy's source of Services says now.

Examples:
  twill diff
  twill diff --fix
  twill diff -o json | jq '.differences[] | select(.kind == "route")'`,
    )
    .action(async (flags: DiffFlags) => {
      const { showDiff } = await import('../inspect/diff.ts');
      await showDiff(flags);
    });
}
