import type { Command } from 'commander';
import type { FlagValues } from '../model/flag.ts';
import { version } from '../process/version.ts';
import { proxyFlags } from '../services/plan/flags.ts';
import { option } from './options.ts';

/** `twill proxy`: flags, configuration file and their order as kube-proxy has them. */
export function addProxyCommand(program: Command): void {
  const command = program
    .command('proxy')
    .description('run the service proxy: Services to rules of iptables or nftables')
    .version(version, '--version', 'print the version')
    .addHelpText(
      'after',
      '\nA flag with [boolean] stands alone or takes =true or =false. Every flag can be set as TWILL_NAME in the environment.\nThose of kube-proxy that have no effect are accepted, too.',
    );
  for (const flag of proxyFlags) command.addOption(option(flag).hideHelp(flag.idle !== undefined));
  command.action(async (flags: FlagValues) => {
    const { readProxySettings } = await import('../services/settings.ts');
    const settings = await readProxySettings(flags, process.env);
    const { read } = settings;
    const file = read.text('write-config-to');
    // Whoever asks for the configuration wants nothing else done, as with kube-proxy.
    if (file === undefined && read.boolean('cleanup')) {
      const { cleanUpProxy } = await import('../services/cleanup.ts');
      await cleanUpProxy((line) => process.stdout.write(`${line}\n`));
      return;
    }
    const { proxyConfig } = await import('../services/config.ts');
    // Before a setting can be found wrong: the build keeps the code of what is loaded by then.
    const { prepareKernel, runProxy } = await import('../services/proxy.ts');
    const config = proxyConfig(read);
    if (file !== undefined) {
      const { writeConfiguration } = await import('../services/configuration-file.ts');
      await writeConfiguration(file, settings);
      return;
    }
    if (read.boolean('init-only')) {
      prepareKernel(config);
      return;
    }
    await runProxy(config, settings);
  });
}
