import { setFlagsFromString } from 'node:v8';
import type { Command } from 'commander';
import type { ProxyFlags } from '../services/config.ts';

/** `twill proxy`: flags as kube-proxy has them. */
export function addProxyCommand(program: Command): void {
  program
    .command('proxy')
    .description('run the service proxy: Services to iptables rules')
    .option(
      '--manifests <directory>',
      'serve Services and EndpointSlices from the YAML files in this directory',
    )
    .option('--kubeconfig <file>', 'how to reach the Kubernetes API (default: service account, $KUBECONFIG)')
    .option('--master <url>', 'URL of the Kubernetes API, over what the kubeconfig says')
    .option(
      '--hostname-override <name>',
      "this node's name, as EndpointSlices say it (default: the hostname)",
    )
    .option('--proxy-mode <mode>', 'how rules are programmed: iptables', 'iptables')
    .option('--cluster-cidr <cidrs>', 'pod network, one per family: traffic from elsewhere is masqueraded')
    .option(
      '--detect-local-mode <mode>',
      'how pod traffic is recognised: ClusterCIDR, NodeCIDR (the podCIDRs of its Node), BridgeInterface, InterfaceNamePrefix',
      'ClusterCIDR',
    )
    .option('--pod-bridge-interface <name>', 'the pods’ bridge, for --detect-local-mode=BridgeInterface')
    .option('--pod-interface-name-prefix <prefix>', 'for --detect-local-mode=InterfaceNamePrefix')
    .option('--masquerade-all', 'masquerade all traffic to cluster IPs', false)
    .option(
      '--nodeport-addresses <cidrs>',
      'networks whose addresses of this node serve node ports and health check ports, or primary for those its Node names (default: all; all of a family of which no network is given)',
    )
    .option('--iptables-localhost-nodeports [bool]', 'serve node ports on 127.0.0.1 too', 'true')
    .option('--iptables-sync-period <duration>', 'how often the rules that stand are read and compared', '5m')
    .option('--iptables-min-sync-period <duration>', 'least time between two changes of the rules', '50ms')
    .option(
      '--healthz-bind-address <address>',
      'serve /healthz, /livez, /readyz here; empty for nowhere',
      '0.0.0.0:10256',
    )
    .option('--metrics-bind-address <address>', 'serve /metrics here; empty for nowhere', '127.0.0.1:10249')
    .option(
      '--bind-address-hard-fail [bool]',
      'end when one of these addresses cannot be served, instead of trying again while rules are written',
      'false',
    )
    .option('--log-level <level>', 'trace, debug, info, warn, error or fatal', 'info')
    .option('--log-format <format>', 'json or pretty', 'json')
    .option('--cleanup', 'remove all rules of the proxy (and of kube-proxy) from this node, and exit', false)
    .action(async (flags: ProxyFlags & { cleanup: boolean }) => {
      if (flags.cleanup) {
        const { cleanUpProxy } = await import('../services/cleanup.ts');
        await cleanUpProxy((line) => process.stdout.write(`${line}\n`));
        return;
      }
      const { proxyConfig } = await import('../services/config.ts');
      const { runProxy } = await import('../services/proxy.ts');
      const config = proxyConfig(flags);
      // The first rules of thousands of Services are the longest work it does, and over before code that V8 optimises
      // meanwhile, on the processor that iptables-restore needs, is of use. (Compiled code that is kept is for V8's own
      // settings: it is loaded by now, and when the build keeps it a wrong flag has ended the program before this.)
      setFlagsFromString('--no-opt');
      await runProxy(config);
    });
}
