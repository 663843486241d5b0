import type { Command } from 'commander';
import { agentFlags, klogFlags } from '../agent/flags.ts';
import type { FlagValues } from '../model/flag.ts';
import { version } from '../process/version.ts';
import { option } from './options.ts';

/** `twill agent`: flags and FLANNELD_* environment variables as flanneld has them. */
export function addAgentCommand(program: Command): void {
  const command = program
    .command('agent')
    .description('run the per-node agent: leases, overlay, CNI server')
    .version(version, '--version', 'print the version')
    .addHelpText('after', '\nEvery flag can be set as TWILL_NAME or FLANNELD_NAME in the environment.');
  for (const flag of agentFlags) command.addOption(option(flag));
  for (const flag of klogFlags) command.addOption(option(flag).hideHelp());
  command.action(async (flags: FlagValues) => {
    const { runAgent } = await import('../agent/agent.ts');
    await runAgent(flags, process.env);
  });
}
