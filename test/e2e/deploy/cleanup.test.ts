import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { twillProgram } from '../../lab/files.ts';
import { defaultNetworkConfig, etcdPrefix, type Lab, withLab } from '../../lab/lab.ts';
import type { LabNode } from '../../lab/node.ts';
import { playScenario } from '../../lab/scenario.ts';
import { waitFor } from '../../lab/wait.ts';

const ipv6Network = 'fd00:10:244::/48';

/** Values that change by themselves, or show other namespaces. */
const restless =
  /stable_secret|fastopen_key|nf_conntrack_(count|buckets|expect)|\/gc_|random|_mem$|fib_sync|mtu_expires/;

/** What the kernel has of a node, in the words of the tools, and every setting of its namespace. */
async function kernelState(node: LabNode): Promise<Record<string, string>> {
  const commands = [
    'ip -d -o link',
    'ip -o address',
    'ip -4 route show table all',
    'ip -6 route show table all',
    'ip nexthop',
    'ip -4 rule',
    'ip -6 rule',
    'nft list ruleset',
    'iptables-legacy-save',
    'ip6tables-legacy-save',
  ];
  const state: Record<string, string> = {};
  for (const command of commands) {
    const [program, ...args] = command.split(' ') as [string, ...string[]];
    const text = (await node.namespace.run(program, args)).stdout;
    state[command] = text
      .replaceAll(/\[\d+:\d+\]/g, '')
      // Empty tables of iptables-legacy come into being by being looked at.
      .replaceAll(/^(#.*|\*\w+|:\w+ ACCEPT .*|COMMIT)\n/gm, '')
      .replaceAll(/expires \d+sec|counter packets \d+ bytes \d+|\w+_timer +[\d.]+/g, '');
  }
  const settings = await node.exec('sh', ['-c', "grep -rsI '' /proc/sys/net | sort"]);
  state.settings = settings
    .split('\n')
    .filter((line) => !restless.test(line))
    .join('\n');
  return state;
}

/** The lines that only one of the two has: the whole is some thousand lines. */
function differences(before: Record<string, string>, after: Record<string, string>): string[] {
  return Object.keys(before).flatMap((what) => {
    const [was, is] = [before[what]!.split('\n'), after[what]!.split('\n')];
    return [
      ...was.filter((line) => !is.includes(line)).map((line) => `${what}: - ${line}`),
      ...is.filter((line) => !was.includes(line)).map((line) => `${what}: + ${line}`),
    ];
  });
}

async function files(node: LabNode): Promise<string> {
  // The lab's /run/xtables.lock, which whoever reads rules of iptables-legacy makes.
  const passedOver = '[.]log$|/xtables[.]lock$';
  return await node.exec('sh', ['-c', `cd ${node.dir} && find . | grep -vE '${passedOver}' | sort`]);
}

const commandFor = (node: LabNode, ...args: string[]): string[] => [
  'cleanup',
  `--state-dir=${node.stateDir}`,
  `--cni-socket=${node.cniSocket}`,
  `--proxy-socket=${node.proxySocket}`,
  `--subnet-file=${node.subnetFile}`,
  `--cni-bin-dir=${join(node.dir, 'cni-bin')}`,
  `--cni-conf-dir=${join(node.dir, 'cni-conf')}`,
  ...args,
];

async function cleanup(node: LabNode, ...args: string[]): Promise<{ status: number; said: string }> {
  const { status, stdout, stderr } = await node.namespace.run(twillProgram, commandFor(node, ...args));
  return { status, said: stdout + stderr };
}

/** Killed as soon as it says that it has done something. @returns false where it was done with the rest before that */
async function killedCleanup(node: LabNode, ...args: string[]): Promise<boolean> {
  const stdio = ['ignore', 'pipe', 'inherit'] as const;
  const child = node.namespace.spawn(twillProgram, commandFor(node, ...args), { stdio: [...stdio] });
  child.stdout!.once('data', () => child.kill('SIGKILL'));
  const [, signal] = await once(child, 'close');
  return signal === 'SIGKILL';
}

/** Another network's configuration, which Twill's takes the place of. */
function writePredecessor(node: LabNode): void {
  const directory = join(node.dir, 'cni-conf');
  mkdirSync(directory);
  mkdirSync(join(node.dir, 'cni-bin'));
  writeFileSync(join(directory, '05-other.conflist'), '{"name":"other","plugins":[{"type":"other"}]}');
}

async function installCni(node: LabNode): Promise<void> {
  const places = [
    `--cni-bin-dir=${join(node.dir, 'cni-bin')}`,
    `--cni-conf-dir=${join(node.dir, 'cni-conf')}`,
  ];
  await node.exec(twillProgram, ['install-cni', '--replace', ...places]);
}

/** On this node what was written with iptables is now written with nftables. */
async function useNftables(lab: Lab, node: LabNode): Promise<void> {
  await lab.etcd.put(
    `${etcdPrefix}/config`,
    JSON.stringify({ ...options.networkConfig, EnableNFTables: true }),
  );
  await node.startAgent(['--vxlan-peers-only']);
  await node.startProxy(['--proxy-mode=nftables']);
  await lab.waitFor('the tables of nftables', async () => {
    const tables = await node.exec('nft', ['list', 'tables']);
    return [
      'twill-peers',
      'ip flannel-ipv4',
      'ip6 flannel-ipv6',
      'ip twill-services',
      'ip6 twill-services',
    ].every((name) => tables.includes(name));
  });
  await Promise.all([node.agent!.stop(), node.proxy!.stop()]);
}

const options = {
  nodes: 3,
  networkConfig: { ...defaultNetworkConfig, EnableIPv6: true, IPv6Network: ipv6Network },
  clusterCidr: `${defaultNetworkConfig.Network},${ipv6Network}`,
};

describe('twill cleanup', () => {
  it('after the demo’s cluster leaves every node as it was before, byte for byte', async () => {
    await withLab(options, async (lab) => {
      for (const node of lab.nodes) {
        writePredecessor(node);
        await waitFor(
          'addresses to be settled',
          async () => !/tentative/.test(await node.exec('ip', ['address'])),
        );
      }
      const before = await Promise.all(lab.nodes.map(kernelState));
      const filesBefore = await Promise.all(lab.nodes.map(files));
      for (const node of lab.nodes) await installCni(node);
      await playScenario(lab, ['ipv4', 'ipv6']);
      const [first, second, third] = lab.nodes as [LabNode, LabNode, LabNode];
      const runtimeConfig = { portMappings: [{ hostPort: 18080, containerPort: 8080, protocol: 'tcp' }] };
      await first.addPod('ported', { runtimeConfig, macspoofchk: true });
      await lab.waitFor('the rules of Services and host ports', async () => {
        const rules = await first.exec('iptables-save', ['-t', 'nat']);
        return /--dport 30080/.test(rules) && /--dport 18080/.test(rules);
      });

      const runs = await cleanup(first);
      assert.equal(runs.status, 1);
      assert.match(
        runs.said,
        /nothing was changed, for the agent runs .*, and a proxy of Twill's runs .*, and 3 pods are attached/,
      );
      for (const node of lab.nodes) await Promise.all([node.agent!.stop(), node.proxy!.stop()]);
      assert.match((await cleanup(first)).said, /nothing was changed, for 3 pods are attached/);

      for (const node of [first, second]) {
        await node.startAgent();
        for (const pod of [...node.pods]) await pod.remove();
        await node.agent!.stop();
      }
      const settled = async (): Promise<boolean> =>
        /cni0: <NO-CARRIER.*linkdown/s.test(Object.values(await kernelState(second)).join('\n'));
      await waitFor('the bridge without ports to be down', settled);
      await useNftables(lab, third);
      const stands = await kernelState(second);
      const dry = await cleanup(second, '--dry-run');
      assert.match(dry.said, /^would do: .*05-other\.conflist: put back$/m);
      assert.deepEqual(differences(stands, await kernelState(second)), []);

      assert.ok(await killedCleanup(third, '--force'));
      for (let times = 1; times < 5 && (await killedCleanup(third, '--force')); times++);
      // The third node's pods are attached still, and lose their network.
      const said = await Promise.all([cleanup(first), cleanup(second), cleanup(third, '--force')]);
      for (const one of said) assert.equal(one.status, 0, one.said);
      // What comes of it is said only afterwards.
      for (const [thing] of dry.said.matchAll(/(?<=would do: ).*?(?=: |$)/gm))
        assert.ok(said[1]!.said.includes(thing), `${thing}\n---\n${said[1]!.said}`);
      for (const pod of third.pods) await pod.namespace.remove();
      for (const [index, node] of lab.nodes.entries()) {
        // Devices, and what their going changes, go a moment after they were told to.
        const left = await waitFor(
          'everything to be gone',
          async () => differences(before[index]!, await kernelState(node)).length === 0,
        ).then(
          () => [],
          async () => differences(before[index]!, await kernelState(node)),
        );
        assert.deepEqual(left, [], said[index]!.said);
        assert.equal(await files(node), filesBefore[index], said[index]!.said);
      }
      const again = await cleanup(first);
      assert.equal(again.status, 0, again.said);
      assert.deepEqual(again.said.trim().split('\n').length, 1, again.said);
    });
  });
});
