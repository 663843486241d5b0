import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Command } from 'commander';
import { addProxyCommand } from '../../../src/commands/proxy.ts';
import { ipv4, ipv6 } from '../../../src/model/address.ts';
import { fromPodMatch, type ProxyFlags, proxyConfig } from '../../../src/services/config.ts';
import { parseNode } from '../../../src/services/plan/node-parse.ts';

function parse(...args: readonly string[]): ReturnType<typeof proxyConfig> {
  const program = new Command().exitOverride();
  addProxyCommand(program);
  const command = program.commands[0]!;
  command.parseOptions([...args]);
  return proxyConfig(command.opts() as ProxyFlags);
}

test('the defaults are valid, and kube-proxy’s where it has them', () => {
  const config = parse();
  assert.equal(config.healthzAddress, '0.0.0.0:10256');
  assert.equal(config.metricsAddress, '127.0.0.1:10249');
  assert.equal(config.localhostNodePorts, true);
  assert.equal(config.nodePortAddresses, undefined);
  assert.deepEqual(config.localDetection, { kind: 'none' });
});

describe('a wrong flag is named:', () => {
  const rows: readonly [args: readonly string[], message: RegExp][] = [
    [['--proxy-mode=ipvs'], /--proxy-mode: 'ipvs'/],
    [['--cluster-cidr=10.244.0.0'], /--cluster-cidr: '10\.244\.0\.0'/],
    [['--cluster-cidr=10.0.0.0/8,11.0.0.0/8'], /--cluster-cidr: more than one IPv4/],
    [['--nodeport-addresses=primary!'], /--nodeport-addresses/],
    [['--iptables-sync-period=5'], /--iptables-sync-period: '5'/],
    [['--detect-local-mode=BridgeInterface'], /--pod-bridge-interface/],
    [['--detect-local-mode=BridgeInterface', '--pod-bridge-interface=a b'], /--pod-bridge-interface: 'a b'/],
    [
      ['--detect-local-mode=BridgeInterface', '--pod-bridge-interface='],
      /bridge-interface must not be empty/,
    ],
    [
      ['--detect-local-mode=BridgeInterface', '--pod-bridge-interface=sixteenletters16'],
      /--pod-bridge-interface: .* at most 15/,
    ],
    [['--detect-local-mode=InterfaceNamePrefix'], /--pod-interface-name-prefix must not be empty/],
    [
      ['--detect-local-mode=InterfaceNamePrefix', '--pod-interface-name-prefix=fifteenletters1'],
      /--pod-interface-name-prefix: .* at most 14/,
    ],
    [
      ['--detect-local-mode=Guess'],
      /--detect-local-mode: 'Guess' is not one of ClusterCIDR, NodeCIDR, BridgeInterface, InterfaceNamePrefix/,
    ],
    [['--log-level=loud'], /--log-level: 'loud'/],
  ];
  for (const [args, message] of rows) {
    test(args.join(' '), () => assert.throws(() => parse(...args), message));
  }
});

test('pods are told by network, bridge or interface prefix', () => {
  const both = parse('--cluster-cidr=10.244.0.0/16,fd00::/48').localDetection;
  assert.equal(fromPodMatch(both, ipv4, undefined), '-s 10.244.0.0/16');
  assert.equal(fromPodMatch(both, ipv6, undefined), '-s fd00::/48');
  const bridge = parse('--detect-local-mode=BridgeInterface', '--pod-bridge-interface=cni0').localDetection;
  assert.equal(fromPodMatch(bridge, ipv4, undefined), '-i cni0');
  const prefix = parse(
    '--detect-local-mode=InterfaceNamePrefix',
    '--pod-interface-name-prefix=veth',
  ).localDetection;
  assert.equal(fromPodMatch(prefix, ipv6, undefined), '-i veth+');
});

test('pods of this node are told by the networks its Node has', () => {
  const detection = parse('--detect-local-mode=NodeCIDR', '--cluster-cidr=10.244.0.0/16').localDetection;
  const match = (spec: object): unknown[] => {
    const facts = parseNode({ spec });
    return [ipv4, ipv6].map((family) => fromPodMatch(detection, family, facts));
  };
  const podCIDRs = ['fd00:244:1::/64', '10.244.1.0/24'];
  assert.deepEqual(match({ podCIDR: podCIDRs[0], podCIDRs }), ['-s 10.244.1.0/24', '-s fd00:244:1::/64']);
  assert.deepEqual(match({ podCIDR: '10.244.2.0/24' }), ['-s 10.244.2.0/24', undefined]);
  assert.deepEqual(match({ podCIDRs: ['nonsense'] }), [undefined, undefined]);
  assert.deepEqual(match({}), [undefined, undefined]);
  assert.equal(fromPodMatch(detection, ipv4, undefined), undefined);
});

test('flags of a mode that is not chosen are left alone, and an empty mode is the usual one', () => {
  const bridge = ['--detect-local-mode=BridgeInterface', '--pod-bridge-interface=cni0'];
  assert.deepEqual(parse(...bridge, '--cluster-cidr=nonsense').localDetection, {
    kind: 'interface',
    name: 'cni0',
  });
  assert.equal(parse('--detect-local-mode=', '--proxy-mode=').localDetection.kind, 'none');
});

test('node ports leave 127.0.0.1 alone when told so, or when other addresses are given', () => {
  assert.equal(parse('--iptables-localhost-nodeports=false').localhostNodePorts, false);
  assert.equal(parse('--nodeport-addresses=192.0.2.0/24').localhostNodePorts, false);
  assert.equal(parse('--nodeport-addresses=192.0.2.0/24,127.0.0.0/8').localhostNodePorts, true);
  assert.equal(parse('--nodeport-addresses=primary').localhostNodePorts, false);
  assert.equal(parse('--nodeport-addresses=primary').nodePortAddresses, 'primary');
});

test('durations are as Go writes them', () => {
  assert.equal(parse('--iptables-sync-period=1m30s').resyncMs, 90_000);
  assert.equal(parse('--iptables-min-sync-period=250ms').minSyncMs, 250);
  assert.equal(parse('--iptables-min-sync-period=0').minSyncMs, 0);
});
