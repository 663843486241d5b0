import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseNetConf } from '../../../src/pods/cni/netconf.ts';
import { fieldNames, parseDeviceMac } from '../../../src/pods/cni/schema.ts';
import { refuseOtherSubnetFile, requestedAddresses } from '../../../src/pods/request.ts';

const usual = { cniVersion: '1.1.0', name: 'net', type: 'twill' };
/** What each place needs beside the field in question. */
const needed: Readonly<Record<string, object>> = {
  'ipam.routes': { dst: '10.0.0.0/8' },
};

/** A configuration with one field at a place: names on the way are spelt as `spell` does. */
function withField(
  path: string,
  name: string,
  value: unknown,
  spell: (name: string) => string,
): Readonly<Record<string, unknown>> {
  const leaf = { ...needed[path], [spell(name)]: value };
  if (path === '') return { ...usual, ...leaf };
  const names = path.split('.');
  const depth = path.endsWith('anges') ? 2 : /routes|portMappings$/.test(path) ? 1 : 0;
  let inner: unknown = leaf;
  for (let level = 0; level < depth; level++) inner = [inner];
  for (const one of names.reverse()) inner = { [spell(one)]: inner };
  return { ...usual, ...(inner as object) };
}

const places = Object.entries(fieldNames).flatMap(([path, names]) =>
  names
    .filter((name) => !(path === '' && name === 'name') && !(path === 'ipam.routes' && name === 'dst'))
    .map((name) => [path, name] as const),
);

test('null is no value, for every field and however it is spelt, as in Go', () => {
  const nothing = parseNetConf(usual);
  for (const [path, name] of places)
    for (const spell of [(text: string) => text, (text: string) => text.toUpperCase()]) {
      const config = withField(path, name, null, spell);
      // A nil list of attachments is an empty one.
      if (name.startsWith('cni.dev/'))
        assert.deepEqual(
          (parseNetConf(config) as typeof nothing & { validAttachments: unknown }).validAttachments,
          [],
        );
      else {
        const parsed = { ...(parseNetConf(config) as object), routes: [], ranges: [], cniVersion: '' };
        const expected = { ...(nothing as object), routes: [], ranges: [], cniVersion: '' };
        if (name === 'prevResult')
          assert.equal((parsed as { prevResult?: unknown }).prevResult ?? undefined, undefined);
        else assert.deepEqual(parsed, expected, `${path}.${name}: ${JSON.stringify(config)}`);
      }
    }
});

test('a host port without its numbers is Go’s zero: none; with one, the other is asked for', () => {
  const of = (mapping: object): unknown => {
    const parsed = parseNetConf({ ...usual, runtimeConfig: { portMappings: [mapping] } });
    return 'portMappings' in parsed ? parsed.portMappings : parsed;
  };
  for (const mapping of [
    {},
    { hostPort: null, containerPort: 80 },
    { HostPort: 0, ContainerPort: 0 },
    { Protocol: '' },
  ])
    assert.deepEqual(of(mapping), [], JSON.stringify(mapping));
  assert.deepEqual(of({ HOSTPORT: 80, containerport: 8080, protocol: null, HostIP: null }), [
    { hostPort: 80, containerPort: 8080, protocol: 'tcp' },
  ]);
  for (const mapping of [
    { hostPort: 80 },
    { hostPort: 80, containerPort: null },
    { hostPort: 80, ContainerPort: 0 },
  ])
    assert.throws(() => of(mapping), /portMappings.*containerPort/s, JSON.stringify(mapping));
});

function accepted(config: object) {
  const parsed = parseNetConf({ ...usual, ...config });
  assert.ok('ranges' in parsed, JSON.stringify(parsed));
  return parsed;
}

test('what Go writes for nothing is nothing: empty addresses and networks, null lists in lists', () => {
  const range = { subnet: '', rangeStart: '', rangeEnd: '', gateway: '' };
  const { ranges } = accepted({
    ipam: { ...range, ranges: [null, [], [{ ...range, subnet: '10.1.0.0/24' }]] },
  });
  assert.deepEqual(
    ranges.flat().map(({ subnet, rangeStart, rangeEnd, gateway }) => [subnet, rangeStart, rangeEnd, gateway]),
    [
      [undefined, undefined, undefined, undefined],
      ['10.1.0.0/24', undefined, undefined, undefined],
    ],
  );
  accepted({
    runtimeConfig: { ipRanges: [null], dns: {}, mac: '', deviceID: '' },
    args: { cni: { mac: '' } },
  });
  const resolvConf = '/etc/resolv.conf';
  const dns = { Nameservers: null, Domain: '', Search: [], Options: null };
  assert.equal(accepted({ dns, ipam: { resolvConf } }).dns, undefined, 'the file counts then');
  assert.deepEqual(accepted({ DNS: { ...dns, NameServers: ['10.0.0.10'] } }).dns, {
    nameservers: ['10.0.0.10'],
  });
  assert.equal(
    accepted({ disableContainerInterface: true, ipam: { type: '', routes: [] } }).containerInterface,
    false,
  );
});

test('what Go refuses to read is refused, with the name of the field', () => {
  for (const [config, named] of [
    [{ ipam: [] }, /ipam/],
    [{ delegate: [] }, /delegate/],
    [{ runtimeConfig: [] }, /runtimeConfig/],
    [{ args: { cni: [] } }, /args\.cni/],
    [{ dns: { nameservers: '10.0.0.10' } }, /dns\.nameservers/],
    [{ dns: [] }, /dns/],
    [{ prevResult: [] }, /prevResult/],
    [{ prevResult: 'none' }, /prevResult/],
    [{ mtu: '1400' }, /mtu/],
    [{ mtu: 1400.5 }, /mtu/],
    [{ isGateway: 'true' }, /isGateway/],
    [{ ingressRate: 1e30 }, /ingressRate/],
    [{ egressRate: -1 }, /egressRate/],
    [{ ipam: { routes: [{ dst: '' }] } }, /ipam\.routes\.0\.dst/],
    [{ runtimeConfig: { portMappings: [{ hostPort: '80', containerPort: 80 }] } }, /hostPort/],
    [{ runtimeConfig: { portMappings: [{ hostPort: 65_536, containerPort: 80 }] } }, /hostPort/],
    [{ runtimeConfig: { portMappings: [{ hostPort: 80, containerPort: 80, hostIP: 'node1' }] } }, /hostIP/],
    [{ bridge: 'é'.repeat(8) }, /bridge/],
    [{ bridge: 'all' }, /bridge/],
  ] as const)
    assert.throws(() => parseNetConf({ ...usual, ...config }), named, JSON.stringify(config));
});

test('limits: the whole of uint64, and no burst without a rate', () => {
  const max = JSON.parse('18446744073709551615') as number;
  const wide = { ingressRate: max, ingressBurst: max, egressRate: 1 };
  assert.deepEqual(accepted({ runtimeConfig: { bandwidth: wide } }).bandwidth, wide);
  assert.deepEqual(accepted(wide).bandwidth, wide);
  const zero = { IngressRate: 0, IngressBurst: 0, EgressRate: 0, EgressBurst: 0 };
  assert.equal(accepted({ runtimeConfig: { bandwidth: zero } }).bandwidth, undefined);
  for (const [config, named] of [
    [{ egressBurst: 1000 }, /: egressBurst is 1000.*egressRate/],
    [{ ingressRate: 0, ingressBurst: 1000 }, /: ingressBurst is 1000/],
    [
      { runtimeConfig: { bandwidth: { ...zero, IngressBurst: 7 } } },
      /runtimeConfig\.bandwidth\.ingressBurst is 7/,
    ],
  ] as const)
    assert.throws(() => parseNetConf({ ...usual, ...config }), named, JSON.stringify(config));
});

test('addresses in the forms that Go takes: a MAC with dashes or dots, IPv4 within IPv6, any spelling of IPv6', () => {
  for (const mac of ['02:00:00:00:00:0a', '02-00-00-00-00-0A', '0200.0000.000a'])
    assert.equal(parseDeviceMac(mac), '02:00:00:00:00:0a');
  for (const mac of ['02:00-00:00:00:0a', '0200.0000.000', '02:00:00:00:00:00:00:0a', '01-00-00-00-00-0a'])
    assert.throws(() => parseDeviceMac(mac), mac);
  const of = (hostIP: string): unknown =>
    accepted({ runtimeConfig: { portMappings: [{ hostPort: 80, containerPort: 80, hostIP }] } })
      .portMappings[0]?.hostIP;
  assert.deepEqual(['', '::', '0.0.0.0', '::ffff:192.0.2.1', '::ffff:c000:201', '2001:DB8:0::0:1'].map(of), [
    undefined,
    '::',
    '0.0.0.0',
    '192.0.2.1',
    '192.0.2.1',
    '2001:db8::1',
  ]);
  const [start, end, gateway, gw] = ['2', '9', '1', '3'].map((host) => `::ffff:10.1.0.${host}`);
  const routes = [{ dst: '198.51.100.0/24', gw }];
  const parsed = accepted({ ipam: { rangeStart: start, rangeEnd: end, gateway, routes } });
  const [range] = parsed.ranges.flat();
  assert.deepEqual(
    [range?.rangeStart, range?.rangeEnd, range?.gateway, parsed.routes[0]?.gw],
    ['10.1.0.2', '10.1.0.9', '10.1.0.1', '10.1.0.3'],
  );
});

test('addresses asked for: CNI_ARGS count where args say nothing, and the capability nothing of the family', () => {
  const of = (runtime: string[], args: string[], IP: string): string[] => {
    const config = accepted({ runtimeConfig: { ips: runtime }, args: { cni: { ips: args } } });
    const call = {
      command: 'ADD',
      containerId: 'c',
      netns: '/n',
      ifname: 'eth0',
      args: { IP },
      config,
    } as const;
    return requestedAddresses(call).map(({ text }) => text);
  };
  assert.deepEqual(of(['10.1.0.2'], [], '10.1.0.4'), ['10.1.0.2']);
  assert.deepEqual(of([], ['10.1.0.3'], '10.1.0.4,fd00::4'), ['10.1.0.3']);
  assert.deepEqual(of(['10.1.0.2/24'], [], 'fd00::4,10.1.0.4'), ['10.1.0.2/24', 'fd00::4']);
  assert.deepEqual(of([], [], '10.1.0.4,,'), ['10.1.0.4']);
  assert.deepEqual(
    of(['10.1.0.2', '10.1.0.3'], [], ''),
    ['10.1.0.2', '10.1.0.3'],
    'two of one form are refused later',
  );
});

test('a path is compared by what it leads to, not by how it is written', () => {
  accepted({ dataDir: '/var/lib/cni//flannel/', ipam: { dataDir: '/var/lib/cni/./networks/' } });
  assert.throws(() => accepted({ ipam: { dataDir: '/var/lib/cni/networks2' } }), /dataDir/);
  const directory = mkdtempSync(join(tmpdir(), 'twill-netconf-'));
  try {
    const own = join(directory, 'subnet.env');
    writeFileSync(own, '');
    symlinkSync(directory, join(directory, 'link'));
    for (const subnetFile of [`${directory}//subnet.env`, join(directory, 'link/subnet.env')])
      refuseOtherSubnetFile(accepted({ subnetFile }), own);
    assert.throws(
      () => refuseOtherSubnetFile(accepted({ subnetFile: '/nowhere' }), own),
      /subnetFile is "\/nowhere"/,
    );
  } finally {
    rmSync(directory, { recursive: true });
  }
});
