import { type Command, Option } from 'commander';
import type { CleanupFlags } from '../agent/cleanup.ts';
import { defaultSocket } from '../pods/plan/protocol.ts';
import { defaultProxySocket } from '../services/plan/inspect-socket.ts';

/** `twill cleanup`: the way out. */
export function addCleanupCommand(program: Command): void {
  program
    .command('cleanup')
    .description(
      "take agent, CNI plugin and proxy off this node: devices, routes, rules, settings and files of Twill's; another network's configuration that was set aside comes back",
    )
    .option('--dry-run', 'say what would be done, and do nothing')
    .option('--force', 'also while an agent or proxy runs, or pods are attached, whose network goes')
    .option('--state-dir <directory>', "the agent's", '/run/twill')
    .option('--cni-socket <path>', "the agent's", defaultSocket)
    .option('--proxy-socket <path>', "the proxy's --inspect-socket", defaultProxySocket)
    .option('--subnet-file <file>', "the agent's", '/run/flannel/subnet.env')
    .option('--bridge <name>', "the pods' bridge", 'cni0')
    .option('--cni-bin-dir <directory>', 'where the plugin was installed', '/opt/cni/bin')
    .option('--cni-conf-dir <directory>', 'where the container runtime looks', '/etc/cni/net.d')
    .option(
      '--kube-subnet-mgr',
      "also take this node's lease out of its Node in Kubernetes, where the agent had put it",
    )
    .addOption(new Option('--kube-api-url <url>', "the agent's").env('TWILL_KUBE_API_URL'))
    .option('--kubeconfig-file <file>', "the agent's")
    .option('--kubelet-kubeconfig <file...>', "the agent's", [])
    .option('--kube-annotation-prefix <prefix>', "the agent's", 'flannel.alpha.coreos.com')
    .action(async (flags: CleanupFlags) => {
      const { cleanUpNode } = await import('../agent/cleanup.ts');
      await cleanUpNode(flags);
    });
}
