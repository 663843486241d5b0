import { Command } from 'commander';
import { agentArguments } from './agent/flags.ts';
import { addAgentCommand } from './commands/agent.ts';
import { addCleanupCommand } from './commands/cleanup.ts';
import { addDiffCommand } from './commands/diff.ts';
import { addFindApiServerCommand } from './commands/find-api-server.ts';
import { addInstallCniCommand } from './commands/install-cni.ts';
import { addPageCommands } from './commands/page.ts';
import { addPodsCommand } from './commands/pods.ts';
import { addPreflightCommand } from './commands/preflight.ts';
import { addProxyCommand } from './commands/proxy.ts';
import { addReportCommand } from './commands/report.ts';
import { addRoutesCommand } from './commands/routes.ts';
import { addServicesCommand } from './commands/services.ts';
import { addStatusCommand } from './commands/status.ts';
import { addTraceCommand } from './commands/trace.ts';
import { describeError } from './model/error.ts';
import { writeStandardError } from './process/standard-error.ts';
import { version } from './process/version.ts';
import { proxyArguments } from './services/plan/flags.ts';

const program = new Command('twill')
  .description('A pod network for Kubernetes and plain Linux hosts.')
  .version(version)
  .showHelpAfterError('(run with --help for the flags)');

// A command declares its flags here and imports its implementation when it is called, so that start-up time and
// memory are those of what runs.
addAgentCommand(program);
addProxyCommand(program);
addInstallCniCommand(program);
addFindApiServerCommand(program);
addStatusCommand(program);
addRoutesCommand(program);
addCleanupCommand(program);
addPodsCommand(program);
addServicesCommand(program);
addDiffCommand(program);
addTraceCommand(program);
addPreflightCommand(program);
addReportCommand(program);
addPageCommands(program);

/** Commands whose flags are spelled as Go programs take them. */
const goArguments: Readonly<Record<string, (args: readonly string[]) => string[]>> = {
  agent: agentArguments,
  proxy: proxyArguments,
};

async function main(): Promise<void> {
  const [node = '', script = '', name, ...args] = process.argv;
  const rest = name === undefined ? [] : [name, ...(goArguments[name]?.(args) ?? args)];
  await program.parseAsync([node, script, ...rest]);
}

// What is still open must not keep a process that has failed, or is done, looking alive.
main().then(
  () => process.exit(),
  (error: unknown) => {
    writeStandardError(`twill: ${describeError(error)}\n`);
    process.exit(1);
  },
);
