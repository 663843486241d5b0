import { type Command, Option } from 'commander';
import { agentFlags, klogFlags } from '../agent/flags.ts';
import type { Flag, FlagValues } from '../process/flag-reader.ts';
import { version } from '../process/version.ts';

const collect = (value: string, earlier: string[] | undefined): string[] => [...(earlier ?? []), value];

function option(flag: Flag): Option {
  const shown = flag.standard === undefined ? flag.help : `${flag.help} (default: ${flag.standard})`;
  if (flag.kind === 'boolean') return new Option(`--${flag.name} [boolean]`, shown).preset(true);
  const made = new Option(`--${flag.name} <${flag.kind === 'integer' ? 'number' : 'value'}>`, shown);
  return flag.kind === 'list' ? made.argParser(collect) : made;
}

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
