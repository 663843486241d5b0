import { type Command, Option } from 'commander';
import { defaultSocket } from '../pods/plan/protocol.ts';
import { giveWay } from '../process/companion.ts';
import { defaultProxySocket } from '../services/plan/inspect-socket.ts';

interface PageFlags {
  readonly socket: string;
  readonly proxySocket: string;
}

interface PageTraceFlags extends PageFlags {
  readonly protocol?: 'tcp' | 'udp' | 'sctp';
  readonly fromAddress?: string;
}

/**
 * What the agent starts for its page, in processes of their own: a look at a large cluster costs it neither memory nor time,
 * and one that hangs is killed. Nobody types these, so that no help shows them.
 */
export function addPageCommands(program: Command): void {
  const hidden = (name: string): Command =>
    program
      .command(name, { hidden: true })
      .option('--socket <path>', 'where the agent listens', defaultSocket)
      .option('--proxy-socket <path>', 'where the proxy listens', defaultProxySocket);
  hidden('page-feed').action(async (flags: PageFlags) => {
    const { runFeed } = await import('../inspect/page/feed.ts');
    giveWay();
    await runFeed(flags, process.stdin, process.stdout);
  });
  hidden('page-trace')
    .argument('<from>')
    .argument('<to>')
    .addOption(new Option('--protocol <protocol>').choices(['tcp', 'udp', 'sctp']))
    .option('--from-address <address>')
    .action(async (from: string, to: string, flags: PageTraceFlags) => {
      const { tracePage } = await import('../inspect/page/trace.ts');
      giveWay();
      const reply = await tracePage(from, to, { ...flags, output: 'json' });
      await new Promise((resolve) => process.stdout.write(JSON.stringify(reply), resolve));
    });
}
