import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { parse, stringify } from 'yaml';
import type { FlagValues } from '../../../src/model/flag.ts';
import { proxyConfig } from '../../../src/services/config.ts';
import { writeConfiguration } from '../../../src/services/configuration-file.ts';
import { asConfiguration, readProxySettings } from '../../../src/services/settings.ts';

let directory: string;
before(() => {
  directory = mkdtempSync(join(tmpdir(), 'twill-configuration-'));
});
after(() => rmSync(directory, { recursive: true }));

const head = { apiVersion: 'kubeproxy.config.k8s.io/v1alpha1', kind: 'KubeProxyConfiguration' };

test('the configuration in force is written, and read again is the same', async () => {
  const path = join(directory, 'written');
  const first = await readProxySettings(
    { clusterCidr: '10.244.0.0/16', featureGates: ['A=true,B=false'], nodeportAddresses: ['primary'] },
    {},
  );
  await writeConfiguration(path, first);
  const text = readFileSync(path, 'utf8');
  for (const line of ['clusterCIDR: 10.244.0.0/16', 'min: 131072', 'syncPeriod: 5m0s', '  B: false'])
    assert.match(text, new RegExp(`${line}$`, 'm'));
  const again = await readProxySettings({ config: path }, {});
  assert.deepEqual(asConfiguration(again), asConfiguration(first));
  assert.deepEqual(proxyConfig(again.read), proxyConfig(first.read));
  assert.deepEqual(
    again.idle.map(({ setting }) => setting),
    [`featureGates in ${path}`],
  );
});

test('what was given as text, by a flag or a variable, is written as kube-proxy writes it, and can be read', async () => {
  const path = join(directory, 'written-types');
  const flags = {
    masqueradeAll: 'T',
    iptablesLocalhostNodeports: 'false',
    oomScoreAdj: '-0x10',
    conntrackMin: '1_0',
    conntrackTcpTimeoutEstablished: '1500ms',
    conntrackTcpTimeoutCloseWait: '+90m',
    iptablesMinSyncPeriod: '.5s',
    featureGates: ['A = 1, B=F'],
    hostnameOverride: ' On ',
    nodeportAddresses: ['192.0.2.0/24', '2001:db8::/64'],
    kubeApiQps: '1e3',
    healthzBindAddress: '192.0.2.7',
    v: '0x2',
  };
  const first = await readProxySettings(flags, {
    TWILL_CONNTRACK_TCP_BE_LIBERAL: '1',
    TWILL_CONNTRACK_UDP_TIMEOUT: '60s',
  });
  await writeConfiguration(path, first);
  const { iptables, conntrack, ...document } = parse(readFileSync(path, 'utf8'), { version: '1.1' });
  assert.deepEqual(
    [iptables.masqueradeAll, iptables.localhostNodePorts, iptables.minSyncPeriod],
    [true, false, '500ms'],
  );
  assert.deepEqual(conntrack, {
    maxPerCore: 32_768,
    min: 10,
    tcpBeLiberal: true,
    tcpCloseWaitTimeout: '1h30m0s',
    tcpEstablishedTimeout: '1.5s',
    udpStreamTimeout: '0s',
    udpTimeout: '1m0s',
  });
  assert.equal(document.oomScoreAdj, -16);
  assert.deepEqual(document.featureGates, { A: true, B: false });
  assert.equal(document.hostnameOverride, 'on');
  assert.equal(document.clientConnection.qps, 1000);
  assert.equal(document.healthzBindAddress, '192.0.2.7:10256');
  assert.equal(document.logging.verbosity, 2);
  const again = await readProxySettings({ config: path }, {});
  assert.deepEqual(asConfiguration(again), asConfiguration(first));
  assert.deepEqual(proxyConfig(again.read), proxyConfig(first.read));
});

test('what the standards depend on is written as it counts', async () => {
  const written = async (flags: FlagValues) => asConfiguration(await readProxySettings(flags, {}));
  assert.deepEqual((await written({ proxyMode: 'nftables' })).nodePortAddresses, ['primary']);
  const { healthzBindAddress, metricsBindAddress } = await written({ bindAddress: '2001:db8::7' });
  assert.deepEqual([healthzBindAddress, metricsBindAddress], ['0.0.0.0:10256', '127.0.0.1:10249']);
});

test('what a file says that changes nothing is written as well: another program may read it next', async () => {
  const idle = {
    clientConnection: { acceptContentTypes: 'application/json', burst: 20 },
    ipvs: { minSyncPeriod: '3s', scheduler: 'lc', excludeCIDRs: ['192.0.2.0/24'] },
    logging: { flushFrequency: '7s', vmodule: [{ filePattern: 'proxier', verbosity: 3 }] },
    nftables: { masqueradeBit: 13, minSyncPeriod: '2s' },
    udpIdleTimeout: '1s',
    windowsRunAsService: true,
    winkernel: { networkName: 'blue' },
  };
  const path = join(directory, 'written-idle');
  writeFileSync(path, stringify({ ...head, ...idle }));
  await writeConfiguration(path, await readProxySettings({ config: path }, {}));
  const found = parse(readFileSync(path, 'utf8'));
  for (const [name, value] of Object.entries(idle)) {
    if (typeof value !== 'object') assert.equal(found[name], value, name);
    else assert.deepEqual({ ...found[name], ...value }, found[name], name);
  }
});
