// The options of a network configuration that are refused, or warned about.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sharedCniNode } from '../../lab/cni-node.ts';
import { added, refused } from '../../lab/pod-options.ts';

const shared = sharedCniNode();

test('what cannot be honoured is refused with code 7, naming field and value', async () => {
  for (const [config, message] of [
    [{ vlanTrunk: [{ id: 7 }] }, /vlanTrunk is \[{"id":7}\]/],
    [{ delegate: { vlanTrunk: [{ id: 7 }] } }, /delegate\.vlanTrunk is/],
    [{ delegate: { name: 'x' } }, /delegate\.name is "x"/],
    [{ delegate: { ipam: { type: 'host-local' } } }, /delegate\.ipam is {"type":"host-local"}/],
    [{ subnetFile: '/run/other.env' }, /subnetFile is "\/run\/other\.env".*\/run\/flannel\/subnet\.env/],
    [{ dataDir: '/srv/cni' }, /dataDir is "\/srv\/cni"/],
    [{ ipam: { dataDir: '/srv/cni' } }, /ipam\.dataDir is "\/srv\/cni"/],
    [{ externalSetMarkChain: 'KUBE-MARK-MASQ' }, /externalSetMarkChain is "KUBE-MARK-MASQ"/],
    [{ unshapedSubnets: ['10.0.0.0/8'] }, /unshapedSubnets is/],
    [{ shapedSubnets: ['10.0.0.0/8'] }, /shapedSubnets is/],
    [{ runtimeConfig: { deviceID: '0000:01:00.0' } }, /runtimeConfig\.deviceID is "0000:01:00\.0"/],
    [{ runtimeConfig: { infinibandGUID: 'c2' } }, /runtimeConfig\.infinibandGUID is "c2"/],
    [{ markMasqBit: 32 }, /markMasqBit/],
    [{ bridge: '../x' }, /bridge/],
    [{ mtu: 67 }, /mtu is 67.*at least 68/],
    [{ ingressBurst: 8000 }, /ingressBurst is 8000.*ingressRate/],
    [
      { ipam: { routes: [{ dst: '198.51.100.0/24', gw: '10.9.9.9' }] } },
      /ipam\.routes\.gw is "10\.9\.9\.9" for 198\.51\.100\.0\/24/,
    ],
    [
      { ipam: { routes: [{ dst: '198.51.100.0/24', gw: 'fd00::1' }] } },
      /ipam\.routes\.gw is "fd00::1".*other family/,
    ],
    [
      { ipam: { routes: [{ dst: '198.51.100.0/24', gw: '10.244.7.255' }] } },
      /ipam\.routes\.gw is "10\.244\.7\.255" for 198\.51\.100\.0\/24, and nobody can have/,
    ],
    [
      { ipam: { routes: [{ dst: '198.51.100.0/24', gw: '10.244.7.1', scope: 253 }] } },
      /ipam\.routes\.scope is 253 for 198\.51\.100\.0\/24, which the kernel refuses/,
    ],
    [
      { ipam: { routes: [{ dst: '198.51.100.0/24', scope: 255 }] } },
      /ipam\.routes\.scope is 255 for 198\.51\.100\.0\/24, which the kernel refuses/,
    ],
  ] as const)
    await refused(shared.node, config, message);
  const behind = [
    { dst: '10.9.9.9/32', scope: 253 },
    { dst: '198.51.100.0/24', gw: '10.9.9.9' },
  ];
  const { result } = await added(shared.node, { ipam: { routes: [...behind, ...behind, ...behind] } });
  assert.deepEqual(result.routes.slice(-2), behind, 'the same again is nothing more');
  const usual = { subnetFile: '/run/flannel/subnet.env', dataDir: '/var/lib/cni/flannel' };
  await added(shared.node, { ...usual, ipam: { dataDir: '/var/lib/cni/networks' }, vlan: 0, vlanTrunk: [] });
});

test('what has no effect, and a misspelt field, is warned about once', async () => {
  const config = {
    delegate: { hairpinMod: true, HairpinMode: true, ipMasqBackend: 'nftables' },
    ipam: { rotues: [], Routes: [{ dst: '198.51.100.0/24', prioritty: 7 }, { dst: '2001:db8::/32' }] },
    capabilities: { portMappings: true, aliases: true, deviceID: false },
    runtimeConfig: {
      portMapings: [],
      portMappings: [
        { hostPort: 0, containerPort: 1, Protocl: 'tcp' },
        { hostPort: 8080, containerPort: 80, protocol: 'udp', hostIP: '2001:db8::1' },
        { hostPort: 8081, containerPort: 80, hostIP: '0.0.0.0' },
      ],
      bandwidth: { ingresRate: 1 },
      dns: { server: ['10.0.0.1'] },
      ipRanges: [[{ subnet: '10.244.7.0/24', rangestrat: '10.244.7.9' }]],
    },
    args: { cin: {}, cni: { ip: ['10.244.7.9'] } },
    preserveDefaultVlan: false,
    backend: 'nftables',
    somethingElse: 1,
  };
  for (let i = 0; i < 3; i++) await added(shared.node, config);
  const portMappings = [{ hostPort: 8090, containerPort: 80 }];
  await added(shared.node, { disableContainerInterface: true, runtimeConfig: { portMappings } });
  const warned = [
    ...shared.node.log.matchAll(/network configuration: ([^"]* has no (?:effect|meaning)[^"]*)"/g),
  ].map((match) => match[1]);
  assert.deepEqual(warned.sort(), [
    'args.cin has no meaning; is cni meant?',
    'args.cni.ip has no meaning; is ips meant?',
    'backend has no effect',
    'capabilities.aliases has no effect',
    'delegate.hairpinMod has no meaning; is hairpinMode meant?',
    'host port 8080 (udp) on 2001:db8::1 has no effect: the pod has no IPv6 address',
    'host port 8090 (tcp) has no effect: the pod has no address',
    'ipMasqBackend has no effect',
    'ipam.rotues has no meaning; is routes meant?',
    'ipam.routes to 2001:db8::/32 has no effect: pods of this node have no IPv6 address',
    'ipam.routes.prioritty has no meaning; is priority meant?',
    'preserveDefaultVlan has no effect',
    'runtimeConfig.bandwidth.ingresRate has no meaning; is ingressRate meant?',
    'runtimeConfig.dns.server has no meaning; is servers meant?',
    'runtimeConfig.ipRanges.rangestrat has no meaning; is rangeStart meant?',
    'runtimeConfig.portMapings has no meaning; is portMappings meant?',
    'runtimeConfig.portMappings.Protocl has no meaning; is protocol meant?',
  ]);
});
