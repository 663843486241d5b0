import { type Command, Option } from 'commander';
import { NO_ANSWER } from '../inspect/plan/exit-status.ts';
import { defaultSocket } from '../pods/plan/protocol.ts';
import { defaultProxySocket } from '../services/plan/inspect-socket.ts';

/** What the exit status says, unless a command has more to say. */
const usualStatus = '0 all is well, 1 something is not as it should be, 3 could not look';

/**
 * Declares an inspection command with the flags that all of them share.
 * @param status what its exit status says
 */
export function inspection(
  program: Command,
  name: string,
  description: string,
  status: string = usualStatus,
): Command {
  return (
    program
      .command(name)
      .description(description)
      // What is not understood says nothing of the node: 1 would.
      .exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : NO_ANSWER))
      .addOption(
        new Option('-o, --output <format>', 'how to print')
          .choices(['table', 'json', 'yaml'])
          .default('table'),
      )
      .option('-w, --watch [seconds]', 'look again every so many seconds (default: 2) until interrupted')
      .option('--socket <path>', 'where the agent listens', defaultSocket)
      .option('--proxy-socket <path>', 'where the proxy listens', defaultProxySocket)
      .addHelpText('after', `\nExit status: ${status}.`)
  );
}
