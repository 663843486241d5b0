import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Command } from 'commander';
import { option } from '../../../src/commands/options.ts';
import { ipv4, ipv6 } from '../../../src/model/address.ts';
import { FlagReader } from '../../../src/process/flag-reader.ts';
import { fromPodMatch, type ProxyConfig, proxyConfig } from '../../../src/services/config.ts';
import { proxyArguments, proxyFlags } from '../../../src/services/plan/flags.ts';
import { parseNode } from '../../../src/services/plan/node-parse.ts';

function parse(...args: readonly string[]): ProxyConfig {
  const command = new Command().exitOverride();
  for (const flag of proxyFlags) command.addOption(option(flag));
  command.parseOptions(proxyArguments(args));
  return proxyConfig(new FlagReader(proxyFlags, { flags: command.opts(), env: {} }));
}

test('the defaults are valid, and kube-proxy’s where it has them', () => {
  const config = parse();
  assert.deepEqual(config.healthzAddress, { host: undefined, port: 10256, text: '0.0.0.0:10256' });
  assert.deepEqual(config.metricsAddress, { host: '127.0.0.1', port: 10249, text: '127.0.0.1:10249' });
  assert.equal(config.localhostNodePorts, true);
  assert.equal(config.nodePortAddresses, undefined);
  assert.deepEqual(config.localDetection, { kind: 'none' });
});

describe('a wrong flag is named:', () => {
  const rows: readonly [args: readonly string[], message: RegExp][] = [
    [['--proxy-mode=ipvs'], /--proxy-mode is 'ipvs', not one of iptables, nftables, auto/],
    [['--cluster-cidr=10.244.0.0'], /--cluster-cidr: '10\.244\.0\.0'/],
    [['--cluster-cidr=10.0.0.0/8,11.0.0.0/8'], /--cluster-cidr has more than one IPv4 network/],
    [['--nodeport-addresses=primary!'], /--nodeport-addresses/],
    [['--iptables-sync-period=5'], /--iptables-sync-period: '5'/],
    [['--detect-local-mode=BridgeInterface'], /--pod-bridge-interface/],
    [['--detect-local-mode=BridgeInterface', '--pod-bridge-interface=a b'], /--pod-bridge-interface 'a b'/],
    [
      ['--detect-local-mode=BridgeInterface', '--pod-bridge-interface='],
      /bridge-interface must not be empty/,
    ],
    [
      ['--detect-local-mode=BridgeInterface', '--pod-bridge-interface=sixteenletters16'],
      /--pod-bridge-interface .* at most 15/,
    ],
    [['--detect-local-mode=InterfaceNamePrefix'], /--pod-interface-name-prefix must not be empty/],
    [
      ['--detect-local-mode=InterfaceNamePrefix', '--pod-interface-name-prefix=fifteenletters1'],
      /--pod-interface-name-prefix .* at most 14/,
    ],
    [
      ['--detect-local-mode=Guess'],
      /--detect-local-mode is 'Guess', not one of ClusterCIDR, NodeCIDR, BridgeInterface, InterfaceNamePrefix/,
    ],
    [['--log-level=loud'], /--log-level is 'loud'/],
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
  assert.equal(parse('--iptables-sync-period=1h2m3.5s').resyncMs, 3_723_500);
  assert.equal(parse('--iptables-sync-period=2562047h').resyncMs, 2_562_047 * 3_600_000);
  assert.throws(() => parse('--iptables-sync-period=2562048h'), /longer than 292 years/);
});

test('whole numbers are as Go reads them', () => {
  for (const [text, value] of [
    ['16', 16],
    ['+16', 16],
    ['0x10', 16],
    ['0b1_0000', 16],
    ['0o20', 16],
    ['020', 16],
    ['1_6', 16],
    ['0', 0],
  ] as const)
    assert.equal(parse(`--conntrack-min=${text}`).conntrack.min, value, text);
  for (const wrong of ['08', '1__0', '_1', '1_', '0x', '1e3', '1.0', ' 1', '٣'])
    assert.throws(() => parse(`--conntrack-min=${wrong}`), /not a whole number/, wrong);
});

test('flags are spelled as Go programs take them', () => {
  assert.deepEqual(
    proxyArguments(['--cluster_cidr=a_b', '-v=4', '-v4', '-v', '2', '--log_dir', 'x_y', '-h']),
    ['--cluster-cidr=a_b', '--v=4', '--v=4', '--v', '2', '--log-dir', 'x_y', '-h'],
  );
});

test('help and version take a value, too', () => {
  assert.deepEqual(
    proxyArguments([
      '--version=true',
      '--version=raw',
      '--help=1',
      '--version=false',
      '--help=F',
      '--version',
    ]),
    ['--version', '--version', '--help', '--version'],
  );
  // To report another version than its own changes nothing; what is neither is for whoever reads the flags to refuse.
  assert.deepEqual(proxyArguments(['--version=v1.36.2-eks', '--version=maybe', '--help=no']), [
    '--version=maybe',
    '--help=no',
  ]);
});

test('empty arguments, which templates leave behind, are nothing but where a flag wants a value', () => {
  assert.deepEqual(
    proxyArguments(['', '--cluster-cidr', '', '--cleanup', '', '--v', '', '--master=x', '', '--nope', '']),
    ['--cluster-cidr', '', '--cleanup', '--v', '', '--master=x', '--nope'],
  );
});

test('booleans have Go’s spellings, for every flag that is one', () => {
  for (const { name, kind } of proxyFlags) {
    if (kind !== 'boolean' || name === 'profiling') continue;
    for (const text of ['1', 't', 'T', 'true', 'TRUE', 'True', '0', 'f', 'F', 'false', 'FALSE', 'False', ''])
      parse(`--${name}=${text}`);
    parse(`--${name}`);
    assert.throws(() => parse(`--${name}=yes`), new RegExp(`--${name} is 'yes', neither true nor false`));
  }
  assert.equal(parse('--masquerade-all=T').masqueradeAll, true);
  assert.equal(parse('--masquerade-all=F').masqueradeAll, false);
  assert.equal(parse('--iptables-localhost-nodeports').localhostNodePorts, true);
});

test('an empty value is that of a flag that is not given, but for the addresses of servers', () => {
  const empty = proxyFlags
    .filter(({ emptyMeans }) => emptyMeans === undefined)
    .map(({ name }) => `--${name}=`);
  assert.deepEqual(parse(...empty), parse());
  assert.equal(parse('--healthz-bind-address=').healthzAddress, undefined);
  assert.equal(parse('--metrics-bind-address=').metricsAddress, undefined);
});

test('decimal numbers of addresses may have leading zeros, as kube-proxy reads them', () => {
  const config = parse(
    '--cluster-cidr=010.244.0.0/16,fd00::/48',
    '--bind-address=192.000.002.007',
    '--healthz-bind-address=0127.0.0.1:080',
    '--nodeport-addresses=192.0.02.0/24',
  );
  const texts = (prefixes: unknown): string[] =>
    (prefixes as readonly { text: string }[]).map(({ text }) => text);
  assert.deepEqual(config.localDetection.kind === 'cidr' && texts(config.localDetection.prefixes), [
    '10.244.0.0/16',
    'fd00::/48',
  ]);
  assert.equal(config.bindAddress?.text, '192.0.2.7');
  assert.deepEqual(config.healthzAddress, { host: '127.0.0.1', port: 80, text: '127.0.0.1:080' });
  assert.deepEqual(texts(config.nodePortAddresses), ['192.0.2.0/24']);
});

test('networks of IPv4 addresses written as IPv6 ones are of IPv4, as kube-proxy reads them, and so is the node’s', () => {
  assert.equal(parse('--bind-address=::ffff:192.0.2.7').bindAddress?.text, '192.0.2.7');
  const { localDetection, nodePortAddresses } = parse(
    '--cluster-cidr=::ffff:10.244.0.0/112,fd00::/48',
    '--nodeport-addresses=::ffff:192.0.2.0/120',
  );
  assert.deepEqual(localDetection.kind === 'cidr' && localDetection.prefixes.map(({ text }) => text), [
    '10.244.0.0/16',
    'fd00::/48',
  ]);
  assert.deepEqual(Array.isArray(nodePortAddresses) && nodePortAddresses.map(({ text }) => text), [
    '192.0.2.0/24',
  ]);
});

test('repeated lists add up', () => {
  const args = ['--nodeport-addresses=192.0.2.0/24,198.51.100.0/24', '--nodeport-addresses', '2001:db8::/64'];
  const networks = parse(...args).nodePortAddresses;
  assert.deepEqual(Array.isArray(networks) && networks.map(({ text }) => text), [
    '192.0.2.0/24',
    '198.51.100.0/24',
    '2001:db8::/64',
  ]);
});

describe('addresses of servers:', () => {
  const rows: readonly [args: readonly string[], text: string | undefined, host: string | undefined][] = [
    [['--healthz-bind-address=:10256'], ':10256', undefined],
    [['--healthz-bind-address=0.0.0.0'], '0.0.0.0:10256', undefined],
    [['--healthz-bind-address=::'], '[::]:10256', undefined],
    [['--healthz-bind-address=[::]:80'], '[::]:80', undefined],
    [['--healthz-bind-address=192.0.2.7'], '192.0.2.7:10256', '192.0.2.7'],
    [['--healthz-bind-address=2001:db8::7'], '[2001:db8::7]:10256', '2001:db8::7'],
    [['--healthz-bind-address=192.0.2.7', '--healthz-port=81'], '192.0.2.7:81', '192.0.2.7'],
    [['--healthz-bind-address=192.0.2.7:80', '--healthz-port=81'], '192.0.2.7:80', '192.0.2.7'],
    [['--healthz-bind-address=192.0.2.7:80', '--healthz-port=0'], undefined, undefined],
    [['--bind-address=2001:db8::7'], '0.0.0.0:10256', undefined],
  ];
  for (const [args, text, host] of rows) {
    test(args.join(' '), () => {
      const address = parse(...args).healthzAddress;
      assert.deepEqual([address?.text, address?.host], [text, host]);
    });
  }
  for (const wrong of ['localhost:80', '192.0.2.7:0', '192.0.2.7:65536', '192.0.2.7:', '[192.0.2.7', 'x'])
    test(`${wrong} is refused`, () =>
      assert.throws(() => parse(`--metrics-bind-address=${wrong}`), /--metrics-bind-address: .*IP:PORT/));
});

test('kube-proxy’s flags are all known, and those that change nothing are checked all the same', () => {
  // kube-proxy --help of 1.36, without those for Windows.
  const known = `bind-address bind-address-hard-fail cleanup cluster-cidr config config-sync-period
    conntrack-max-per-core conntrack-min conntrack-tcp-be-liberal conntrack-tcp-timeout-close-wait
    conntrack-tcp-timeout-established conntrack-udp-timeout conntrack-udp-timeout-stream detect-local-mode
    feature-gates healthz-bind-address healthz-port hostname-override init-only iptables-localhost-nodeports
    iptables-masquerade-bit iptables-min-sync-period iptables-sync-period ipvs-exclude-cidrs ipvs-min-sync-period
    ipvs-scheduler ipvs-strict-arp ipvs-sync-period ipvs-tcp-timeout ipvs-tcpfin-timeout ipvs-udp-timeout
    kube-api-burst kube-api-content-type kube-api-qps kubeconfig log-flush-frequency log-json-info-buffer-size
    log-json-split-stream log-text-info-buffer-size log-text-split-stream logging-format masquerade-all master
    metrics-bind-address metrics-port nodeport-addresses oom-score-adj pod-bridge-interface
    pod-interface-name-prefix profiling proxy-mode show-hidden-metrics-for-version v vmodule write-config-to`;
  const names = new Set(proxyFlags.map(({ name }) => name));
  assert.deepEqual(
    known.split(/\s+/).filter((name) => !names.has(name)),
    [],
  );
  for (const [args, message] of [
    [['--kube-api-burst=-1'], /--kube-api-burst is '-1'/],
    [['--kube-api-qps=many'], /--kube-api-qps is 'many', not a number/],
    [['--ipvs-sync-period=5'], /--ipvs-sync-period: '5' is not a duration/],
    [['--config-sync-period=0'], /--config-sync-period must be greater than 0/],
    [['--feature-gates=A'], /--feature-gates 'A' is not of the form/],
    [['--feature-gates=A=yes'], /--feature-gates 'A=yes' is not of the form/],
    [['--show-hidden-metrics-for-version=abc'], /is 'abc', not of the form MAJOR\.MINOR/],
    [['--cleanup=maybe'], /--cleanup is 'maybe', neither true nor false/],
    [['--init-only=maybe'], /--init-only is 'maybe', neither true nor false/],
    [['--oom-score-adj=-1001'], /--oom-score-adj is '-1001'/],
    [['--conntrack-min=-1'], /--conntrack-min is '-1'/],
    [['--iptables-sync-period=0'], /--iptables-sync-period must be greater than 0/],
    [['--iptables-min-sync-period=-1s'], /--iptables-min-sync-period must not be less than 0/],
    [['--iptables-sync-period=1s', '--iptables-min-sync-period=2s'], /is longer than --iptables-sync-period/],
    [['--profiling'], /--profiling is not served/],
    [['--logging-format=xml'], /--logging-format is 'xml'/],
    [['--v=loud'], /--v is 'loud'/],
  ] as const)
    assert.throws(() => parse(...args), message);
});
