import type { Command } from 'commander';
import type { ReportFlags } from '../inspect/report.ts';
import { inspection } from './inspection.ts';

const collect = (value: string, earlier: string[] = []): string[] => [...earlier, value];

/** `twill report`: everything for a bug report. */
export function addReportCommand(program: Command): void {
  inspection(
    program,
    'report',
    'put everything that helps to find a fault into one .tar.gz, without passwords, tokens and keys',
    '0 written, 3 could not write it',
  )
    .option(
      '--file <path>',
      'where to write it (default: twill-report-NODE-TIME.tar.gz here); - for standard output',
    )
    .option('--cni-conf-dir <directory>', 'where the runtime looks for configurations', '/etc/cni/net.d')
    .option(
      '--log-file <path>',
      'a log to put in, beside those of systemd and the kubelet; may repeat',
      collect,
    )
    .addHelpText(
      'after',
      `
In it are the answers of status, diff, routes, pods, services and preflight as JSON, what stands in the kernel as ip, bridge,
iptables and nft show it, settings, logs, and the CNI configurations. Each file is cut at 4 MiB, all together at 32 MiB.

Examples:
  twill report
  kubectl -n twill exec POD -c agent -- twill report --file - > report.tar.gz`,
    )
    .action(async (flags: ReportFlags) => {
      const { showReport } = await import('../inspect/report.ts');
      await showReport(flags);
    });
}
