import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { readAgentConfig } from '../../../src/agent/config.ts';
import { agentArguments, agentFlags } from '../../../src/agent/flags.ts';
import { isTwillError } from '../../../src/model/error.ts';

describe('agent configuration', () => {
  it("has flanneld's defaults", () => {
    const config = readAgentConfig({}, {});
    assert.deepEqual(config.etcdEndpoints, ['http://127.0.0.1:4001', 'http://127.0.0.1:2379']);
    assert.equal(config.etcdPrefix, '/coreos.com/network');
    assert.equal(config.subnetFile, '/run/flannel/subnet.env');
    assert.equal(config.leaseRenewMarginSeconds, 3600);
    assert.equal(config.ipMasq, false);
    assert.equal(config.forwardRules, true);
    assert.equal(config.rulesResyncMs, 5000);
    assert.equal(config.healthz, undefined);
  });

  it('takes a flag before TWILL_…, that before FLANNELD_…, and passes over what is empty', () => {
    const env = {
      TWILL_IP_MASQ: 'true',
      FLANNELD_IP_MASQ: 'false',
      FLANNELD_ETCD_PREFIX: '/a/',
      TWILL_SUBNET_FILE: '',
    };
    assert.equal(readAgentConfig({}, env).ipMasq, true);
    assert.equal(readAgentConfig({ ipMasq: 'false' }, env).ipMasq, false);
    assert.equal(readAgentConfig({}, env).etcdPrefix, '/a');
    assert.equal(readAgentConfig({}, env).subnetFile, '/run/flannel/subnet.env');
  });

  it('takes flags in the form of Go, single dash or double', () => {
    assert.deepEqual(
      agentArguments([
        '-ip-masq',
        '-iface=eth0',
        '--iface',
        'eth1',
        '-v=4',
        '-logtostderr',
        '-h',
        '-x',
        '--',
        '-1',
      ]),
      ['--ip-masq', '--iface=eth0', '--iface', 'eth1', '--v=4', '--logtostderr', '-h', '-x', '--', '-1'],
    );
  });

  it("klog's verbosity sets the level", () => {
    assert.equal(readAgentConfig({ v: '4' }, {}).logLevel, 'debug');
    assert.equal(readAgentConfig({ v: '2' }, {}).logLevel, 'info');
    assert.equal(readAgentConfig({ v: '2', logLevel: 'warn' }, {}).logLevel, 'warn');
  });

  it('reads repeated flags, and lists in the environment', () => {
    assert.deepEqual(readAgentConfig({ iface: ['eth1', 'eth0'] }, {}).interfaces, ['eth1', 'eth0']);
    assert.deepEqual(readAgentConfig({}, { FLANNELD_IFACE: 'eth1,eth0' }).interfaces, ['eth1', 'eth0']);
    const { publicIps, healthz } = readAgentConfig(
      { publicIp: '192.0.2.7', publicIpv6: 'fd00::7', healthzPort: '8080', healthzIp: '127.0.0.1' },
      {},
    );
    assert.deepEqual(
      publicIps.map(({ text }) => text),
      ['192.0.2.7', 'fd00::7'],
    );
    assert.deepEqual(healthz, { host: '127.0.0.1', port: 8080, text: '127.0.0.1:8080' });
  });

  it('takes the password for etcd from a file or the environment, and says so in its help', () => {
    const directory = mkdtempSync(join(tmpdir(), 'twill-password-'));
    try {
      const file = join(directory, 'password');
      writeFileSync(file, ' with spaces \n');
      assert.equal(readAgentConfig({ etcdPasswordFile: file }, {}).etcdPassword, ' with spaces ');
      assert.equal(readAgentConfig({}, { TWILL_ETCD_PASSWORD_FILE: file }).etcdPassword, ' with spaces ');
      assert.equal(readAgentConfig({}, { FLANNELD_ETCD_PASSWORD: 'x' }).etcdPassword, 'x');
      const both = { etcdPassword: 'secret', etcdPasswordFile: file };
      assert.throws(
        () => readAgentConfig(both, {}),
        /give --etcd-password or --etcd-password-file, not both/,
      );
    } finally {
      rmSync(directory, { recursive: true });
    }
    const help = agentFlags.find(({ name }) => name === 'etcd-password')!.help;
    assert.match(help, /--etcd-password-file.*TWILL_ETCD_PASSWORD/);
  });

  it('refuses an endpoint of etcd that is none, without telling its password', () => {
    for (const endpoint of [
      'http://[',
      'ftp://etcd:2379',
      'http://a:b@etcd:2379',
      'http://etcd:2379/v3',
      'etcd:x',
    ])
      assert.throws(
        () => readAgentConfig({ etcdEndpoints: `http://127.0.0.1:2379,${endpoint}` }, {}),
        (error) => isTwillError(error, 'invalid') && !error.message.includes('a:b'),
        endpoint,
      );
    const etcdEndpoints = 'https://etcd-1.example:2379,http://[fd00::1]:2379/, 192.0.2.1:2379,etcd';
    assert.equal(readAgentConfig({ etcdEndpoints }, {}).etcdEndpoints.length, 4);
  });

  const wrong: [Record<string, string | string[]>, string][] = [
    [{ ipMasq: 'maybe' }, '--ip-masq'],
    [{ publicIp: 'fd00::7' }, '--public-ip'],
    [{ publicIpv6: 'nonsense' }, '--public-ipv6'],
    [{ publicIp: '0.0.0.0' }, '--public-ip'],
    [{ publicIp: '127.0.0.1' }, '--public-ip'],
    [{ publicIp: '192.0.2.1/24' }, '--public-ip'],
    [{ publicIpv6: 'fe80::1' }, '--public-ipv6'],
    [{ publicIpv6: '::ffff:192.0.2.1' }, '--public-ipv6'],
    [{ ifaceCanReach: '224.0.0.1' }, '--iface-can-reach'],
    [{ ifaceCanReach: 'etcd.example.org' }, '--iface-can-reach'],
    [{ ifaceRegex: ['eth0', '('] }, '--iface-regex'],
    [{ bridge: 'a-bridge-with-a-long-name' }, '--bridge'],
    [{ bridge: 'br/0' }, '--bridge'],
    [{ subnetLeaseRenewMargin: '0' }, '--subnet-lease-renew-margin'],
    [{ subnetLeaseRenewMargin: '1440' }, '--subnet-lease-renew-margin'],
    [{ healthzPort: '80x' }, '--healthz-port'],
    [{ iptablesResync: '0' }, '--iptables-resync'],
    [{ healthzPort: '8080', healthzIp: 'localhost' }, '--healthz-ip'],
    [{ metricsBindAddress: '192.0.2.7' }, '--metrics-bind-address'],
    [{ logLevel: 'loud' }, '--log-level'],
    [{ logFormat: 'xml' }, '--log-format'],
  ];
  for (const [flags, named] of wrong) {
    it(`refuses ${JSON.stringify(flags)} and names the flag`, () => {
      assert.throws(
        () => readAgentConfig(flags, {}),
        (error) => isTwillError(error, 'invalid') && error.message.includes(named),
      );
    });
  }
});
