import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { stringify } from 'yaml';
import type { FlagValues } from '../../../src/model/flag.ts';
import { type ProxyConfig, proxyConfig } from '../../../src/services/config.ts';
import { asConfiguration, type ProxySettings, readProxySettings } from '../../../src/services/settings.ts';
import { root } from '../../lab/files.ts';

let directory: string;
before(() => {
  directory = mkdtempSync(join(tmpdir(), 'twill-configuration-'));
});
after(() => rmSync(directory, { recursive: true }));

const head = { apiVersion: 'kubeproxy.config.k8s.io/v1alpha1', kind: 'KubeProxyConfiguration' };

async function settings(fields: object | string, flags: FlagValues = {}, env = {}): Promise<ProxySettings> {
  const path = join(directory, 'config.conf');
  writeFileSync(path, typeof fields === 'string' ? fields : stringify({ ...head, ...fields }));
  return await readProxySettings({ config: path, ...flags }, env);
}

async function config(fields: object | string, flags: FlagValues = {}, env = {}): Promise<ProxyConfig> {
  return proxyConfig((await settings(fields, flags, env)).read);
}

test('kubeadm’s default configuration is taken without a word, with the standards for all that nobody has set', async () => {
  const text = readFileSync(join(root, 'test/fixtures/kubeadm-kube-proxy.yaml'), 'utf8');
  const read = await settings(text, { hostnameOverride: 'Node1' });
  assert.deepEqual(read.idle, []);
  const { kubeconfig, nodeName, localDetection, healthzAddress, metricsAddress, minSyncMs, conntrack } =
    proxyConfig(read.read);
  assert.equal(kubeconfig, '/var/lib/kube-proxy/kubeconfig.conf');
  assert.equal(nodeName, 'node1');
  assert.equal(localDetection.kind, 'cidr');
  assert.equal(healthzAddress?.text, '0.0.0.0:10256');
  assert.equal(metricsAddress?.text, '127.0.0.1:10249');
  assert.equal(minSyncMs, 50);
  assert.equal(conntrack.tcpCloseWaitSeconds, 3600);
  assert.equal(conntrack.maxPerCore, 32_768);
});

test('every field with a meaning has it', async () => {
  const made = await config({
    bindAddress: '192.0.2.7',
    bindAddressHardFail: true,
    clientConnection: { kubeconfig: '/etc/kube' },
    conntrack: {
      maxPerCore: 0,
      min: 1,
      tcpBeLiberal: true,
      tcpCloseWaitTimeout: '2m',
      tcpEstablishedTimeout: '0s',
      udpStreamTimeout: '3m',
      udpTimeout: '40s',
    },
    detectLocalMode: 'BridgeInterface',
    detectLocal: { bridgeInterface: 'cni0' },
    healthzBindAddress: '192.0.2.7',
    hostnameOverride: 'Node7',
    iptables: { localhostNodePorts: false, masqueradeAll: true, minSyncPeriod: '1s', syncPeriod: '1h0m0.5s' },
    logging: { verbosity: 5, format: 'json' },
    metricsBindAddress: '[::]:9000',
    nodePortAddresses: ['192.0.2.0/24', '2001:db8::/64'],
    oomScoreAdj: 0,
  });
  assert.equal(made.bindAddress?.text, '192.0.2.7');
  assert.equal(made.bindAddressHardFail, true);
  assert.equal(made.kubeconfig, '/etc/kube');
  assert.deepEqual(made.conntrack, {
    maxPerCore: 0,
    min: 1,
    tcpEstablishedSeconds: 0,
    tcpCloseWaitSeconds: 120,
    tcpBeLiberal: true,
    udpSeconds: 40,
    udpStreamSeconds: 180,
  });
  assert.deepEqual(made.localDetection, { kind: 'interface', name: 'cni0' });
  assert.deepEqual(made.healthzAddress, { host: '192.0.2.7', port: 10_256, text: '192.0.2.7:10256' });
  assert.deepEqual(made.metricsAddress, { host: undefined, port: 9000, text: '[::]:9000' });
  assert.equal(made.nodeName, 'node7');
  assert.equal(made.localhostNodePorts, false);
  assert.equal(made.masqueradeAll, true);
  assert.equal(made.minSyncMs, 1000);
  assert.equal(made.resyncMs, 3_600_500);
  assert.equal(made.healthTimeoutMs, 2 * 3_600_500);
  assert.equal(made.logLevel, 'debug');
  assert.equal(made.oomScoreAdj, 0);
  assert.equal((made.nodePortAddresses as unknown[]).length, 2);
});

describe('a file that cannot be used is named, with what is wrong:', () => {
  const rows: Readonly<Record<string, [fields: object | string, message: RegExp]>> = {
    'an unknown field': [{ iptables: { maskAll: true } }, /config\.conf: unknown field 'iptables\.maskAll'/],
    'another case': [{ clustercidr: '' }, /unknown field 'clustercidr'/],
    'several at once': [{ a: 1, ipvs: { b: 2 } }, /unknown field 'a'; unknown field 'ipvs\.b'/],
    'a text for a number': [{ conntrack: { min: '1' } }, /'conntrack\.min' is "1", not a whole number/],
    'a fraction': [{ conntrack: { min: 1.5 } }, /'conntrack\.min' is 1\.5, not a whole number/],
    'a text for a boolean': [{ bindAddressHardFail: 'true' }, /'bindAddressHardFail' is "true"/],
    'a number for a duration': [
      { iptables: { syncPeriod: 30 } },
      /'iptables\.syncPeriod' is 30, not a duration/,
    ],
    'a duration without unit': [{ iptables: { syncPeriod: '30' } }, /'iptables\.syncPeriod' is "30"/],
    'a text for a list': [{ nodePortAddresses: 'primary' }, /'nodePortAddresses' is "primary", not a list/],
    'a text for a section': [{ iptables: 'x' }, /'iptables' is "x", not a section/],
    'another kind': [
      `apiVersion: v1\nkind: ConfigMap\n`,
      /it is ConfigMap of v1, not KubeProxyConfiguration/,
    ],
    'another version': [
      { apiVersion: 'kubeproxy.config.k8s.io/v1' },
      /KubeProxyConfiguration of kubeproxy\.config\.k8s\.io\/v1, not/,
    ],
    'no YAML': ['a: [', /--config .*config\.conf: /],
    'a field twice': [`${stringify(head)}mode: ""\nmode: iptables\n`, /unique/],
    'two documents': [
      `${stringify(head)}---\n${stringify(head)}`,
      /there are 2 documents, not one: keep the KubeProxyConfiguration alone/,
    ],
    'an alias of what is refused': [`${stringify(head)}nftables: &a {x: 1}\niptables: *a\n`, /iptables\.x'/],
    'an alias to itself': [`${stringify(head)}iptables: &a\n  x: *a\n`, /unknown field 'iptables\.x'/],
    'more aliases than anybody needs': [
      `${stringify(head)}a: &a [1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c,*c,*c,*c,*c]\n`,
      /Excessive alias count/,
    ],
    'names of JavaScript': [
      `${stringify(head)}__proto__: 1\nconstructor: 1\n`,
      /'__proto__'; unknown field 'constructor'/,
    ],
    'a gate that is neither on nor off': [
      { featureGates: { Some: 'perhaps' } },
      /'featureGates' is .* not a section of NAME: true or NAME: false/,
    ],
    'a duration that Go has not': [{ iptables: { syncPeriod: '9999999h' } }, /longer than 292 years/],
    'a mode of detection': [{ detectLocalMode: 'Bridge' }, /detectLocalMode in .* not one of ClusterCIDR/],
    'no bridge': [
      { detectLocalMode: 'BridgeInterface' },
      /detectLocal\.bridgeInterface in .* must not be empty/,
    ],
    'an address for a network': [{ nodePortAddresses: ['192.0.2.1'] }, /nodePortAddresses in .*CIDR/],
    'a name of spaces': [{ hostnameOverride: '  ' }, /hostnameOverride in .* is empty but for spaces/],
    tabs: [`${stringify(head)}iptables:\n\tsyncPeriod: 1s\n`, /Tabs are not allowed/],
    nothing: ['', /it is no KubeProxyConfiguration/],
    'another mode': [{ mode: 'ipvs' }, /mode in .*config\.conf is 'ipvs', not one of iptables, nftables/],
    'a minimum above the period': [
      { iptables: { syncPeriod: '1s', minSyncPeriod: '2s' } },
      /iptables\.minSyncPeriod in .* is longer than iptables\.syncPeriod in/,
    ],
    'a negative period': [{ iptables: { syncPeriod: '-1s' } }, /iptables\.syncPeriod in .* greater than 0/],
    'a negative timeout': [{ conntrack: { udpTimeout: '-1s' } }, /conntrack\.udpTimeout in .* less than 0/],
    'a bit that is none': [{ iptables: { masqueradeBit: 32 } }, /iptables\.masqueradeBit in .* from 0 to 31/],
    'a bit of its own': [{ iptables: { masqueradeBit: 0 } }, /iptables\.masqueradeBit in .* is 14 here/],
    profiling: [{ enableProfiling: true }, /enableProfiling in .* is not served/],
    'an address that is none': [{ bindAddress: 'x' }, /bindAddress in .* 'x' is not an IP address/],
    'a server’s address that is none': [
      { metricsBindAddress: 'localhost:1' },
      /metricsBindAddress in .*: 'localhost:1' is not an address/,
    ],
    'primary and networks': [
      { nodePortAddresses: ['primary', '192.0.2.0/24'] },
      /nodePortAddresses in .* both 'primary' and networks/,
    ],
    'two networks of a family': [
      { clusterCIDR: '10.0.0.0/8,11.0.0.0/8' },
      /clusterCIDR in .* more than one IPv4/,
    ],
  };
  for (const [what, [fields, message]] of Object.entries(rows))
    test(what, async () => await assert.rejects(config(fields), message));

  test('a directory', async () => {
    await assert.rejects(readProxySettings({ config: directory }, {}), /--config .* cannot be read/);
  });

  test('a file that is not there', async () => {
    await assert.rejects(readProxySettings({ config: '/missing' }, {}), /--config \/missing cannot be read/);
  });
});

test('YAML is read as Go reads it: aliases, merged maps, yes and no, empty documents beside the one', async () => {
  const text = `---
${stringify(head)}nftables: &periods {syncPeriod: 1h2m3.5s}
iptables:
  <<: *periods
  masqueradeAll: yes
  localhostNodePorts: Off
conntrack: {min: 0x10}
hostnameOverride: ' Node1 '
---
`;
  const made = await config(text);
  assert.equal(made.resyncMs, 3_723_500);
  assert.equal(made.masqueradeAll, true);
  assert.equal(made.localhostNodePorts, false);
  assert.equal(made.conntrack.min, 16);
  assert.equal(made.nodeName, 'node1');
  for (const [yaml, min] of [
    ['010', 8],
    ['0o10', 8],
    ['0b11', 3],
    ['0X1_0', 16],
    ['+0x10', 16],
    ['1_', 1],
    ['1_000', 1000],
    ['+5', 5],
    ['1e3', 1000],
  ] as const)
    assert.equal((await config(`${stringify(head)}conntrack: {min: ${yaml}}\n`)).conntrack.min, min, yaml);
  for (const [yaml, on] of [
    ['y', true],
    ['Y', true],
    ['on', true],
    ['n', false],
    ['NO', false],
  ] as const)
    assert.equal((await config(`${stringify(head)}iptables: {masqueradeAll: ${yaml}}\n`)).masqueradeAll, on);
  await assert.rejects(
    config(`${stringify(head)}hostnameOverride: on\n`),
    /'hostnameOverride' is true, not a text/,
  );
  await assert.rejects(config(`${stringify(head)}conntrack: {min: 1:30}\n`), /'conntrack\.min' is "1:30"/);
  const same = { kind: head.kind, apiVersion: head.apiVersion, iptables: { masqueradeAll: true } };
  assert.equal((await config(JSON.stringify(same))).masqueradeAll, true);
  assert.equal((await config(`\ufeff${JSON.stringify(same)}`)).masqueradeAll, true);
});

test('fields of other modes are left alone, and those that change nothing are said, with the reason', async () => {
  const { idle, read } = await settings({
    ipvs: { scheduler: 'rr', strictARP: true, syncPeriod: '30s' },
    nftables: { masqueradeAll: true, syncPeriod: '1m' },
    clientConnection: { qps: 5, burst: 20 },
    featureGates: { SomeGate: true },
    logging: { flushFrequency: '5s', vmodule: [{ filePattern: 'a', verbosity: 3 }] },
  });
  proxyConfig(read);
  const where = join(directory, 'config.conf');
  assert.deepEqual(idle.map(({ setting }) => setting.replace(` in ${where}`, '')).sort(), [
    'clientConnection.burst',
    'featureGates',
    'ipvs.scheduler',
    'ipvs.strictARP',
    'logging.vmodule',
    'nftables.masqueradeAll',
    'nftables.syncPeriod',
  ]);
});

test('in mode nftables what both modes have is taken from its section, and written there', async () => {
  const nftables = { masqueradeAll: true, masqueradeBit: 14, minSyncPeriod: '2s', syncPeriod: '1m' };
  const both = await settings({ mode: 'nftables', nftables, iptables: { syncPeriod: '7s' } });
  const made = proxyConfig(both.read);
  assert.deepEqual(
    [made.mode, made.masqueradeAll, made.minSyncMs, made.resyncMs],
    ['nftables', true, 2000, 60_000],
  );
  assert.deepEqual(
    both.idle.map(({ setting }) => setting),
    [`iptables.syncPeriod in ${join(directory, 'config.conf')}`],
  );
  const written = asConfiguration(both) as Record<string, Record<string, unknown>>;
  assert.equal(written.nftables!.masqueradeAll, true);
  assert.equal(written.nftables!.syncPeriod, '1m0s');
  assert.equal(written.iptables!.masqueradeAll, false);
  const wrong = config({ mode: 'nftables', nftables: { masqueradeBit: 15 } });
  await assert.rejects(wrong, /nftables\.masqueradeBit in .* is/);
});

test('where a file is given it decides, but for the node’s name, the log and what it has no field for', async () => {
  const file = { clusterCIDR: '10.244.0.0/16', hostnameOverride: 'of-file', logging: { verbosity: 2 } };
  const flags = { clusterCidr: '10.0.0.0/8', masqueradeAll: true, hostnameOverride: 'of-flag', v: '4' };
  const env = { TWILL_IPTABLES_SYNC_PERIOD: '1s', TWILL_MASTER: 'https://192.0.2.1' };
  const { read, idle } = await settings(file, flags, env);
  const made = proxyConfig(read);
  assert.equal(made.nodeName, 'of-flag');
  assert.equal(made.logLevel, 'debug');
  assert.equal(made.master, 'https://192.0.2.1');
  assert.equal(made.masqueradeAll, false);
  assert.equal(made.resyncMs, 300_000);
  assert.equal(made.localDetection.kind === 'cidr' && made.localDetection.prefixes[0]!.text, '10.244.0.0/16');
  assert.deepEqual(idle.map(({ setting }) => setting).sort(), [
    '--cluster-cidr',
    '--iptables-sync-period',
    '--masquerade-all',
  ]);
  assert.equal((await config(file)).nodeName, 'of-file');
});

test('an IPv6 node address moves the standards of the servers', async () => {
  const { healthzAddress, metricsAddress } = await config({ bindAddress: '::' });
  assert.deepEqual([healthzAddress?.text, metricsAddress?.text], ['[::]:10256', '[::1]:10249']);
});

test('but not one of IPv4 in the form of IPv6, or one in a flag, as with kube-proxy', async () => {
  const usual = ['0.0.0.0:10256', '127.0.0.1:10249'];
  const mapped = await config({ bindAddress: '::ffff:192.0.2.7' });
  const { read } = await readProxySettings({ bindAddress: '2001:db8::7' }, {});
  for (const { healthzAddress, metricsAddress } of [mapped, proxyConfig(read)])
    assert.deepEqual([healthzAddress?.text, metricsAddress?.text], usual);
});
