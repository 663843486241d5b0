import type { LabNode } from './node.ts';

/** A node as flanneld leaves it. */
export interface FlannelNode {
  readonly node: LabNode;
  /** The third part of its subnet, 10.244.THIRD.0/24. */
  readonly third: number;
  readonly mac: string;
}

/** The address of a node's flannel.1. */
export const tunnel = (third: number): string => `10.244.${third}.0`;

/** The commands that amount to what flanneld does over netlink, and its iptables rules. */
export async function wireLikeFlannel(self: FlannelNode, peers: readonly FlannelNode[]): Promise<void> {
  const { node, third, mac } = self;
  await node.namespace.ip(
    `link add flannel.1 address ${mac} mtu 1450 type vxlan id 1 dev eth0 local ${node.ipv4} dstport 8472 nolearning`,
    `address add ${tunnel(third)}/32 dev flannel.1`,
    'link set flannel.1 up',
  );
  await node.exec('tee', ['/proc/sys/net/ipv4/ip_forward'], { input: '1' });
  for (const peer of peers) {
    await node.namespace.ip(
      `neighbour add ${tunnel(peer.third)} lladdr ${peer.mac} dev flannel.1 nud permanent`,
      `route add ${tunnel(peer.third)}/24 via ${tunnel(peer.third)} dev flannel.1 onlink`,
    );
    await node.exec('bridge', ['fdb', 'add', peer.mac, 'dev', 'flannel.1', 'dst', peer.node.ipv4]);
  }
  const comment = '-m comment --comment "flanneld masq"';
  const subnet = `${tunnel(third)}/24`;
  const rules = [
    '*nat',
    ':FLANNEL-POSTRTG - [0:0]',
    `-A POSTROUTING ${comment} -j FLANNEL-POSTRTG`,
    `-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 ${comment} -j RETURN`,
    `-A FLANNEL-POSTRTG -s ${subnet} -d 10.244.0.0/16 ${comment} -j RETURN`,
    `-A FLANNEL-POSTRTG -s 10.244.0.0/16 -d ${subnet} ${comment} -j RETURN`,
    `-A FLANNEL-POSTRTG ! -s 10.244.0.0/16 -d ${subnet} ${comment} -j RETURN`,
    `-A FLANNEL-POSTRTG -s 10.244.0.0/16 ! -d 224.0.0.0/4 ${comment} -j MASQUERADE --random-fully`,
    `-A FLANNEL-POSTRTG ! -s 10.244.0.0/16 -d 10.244.0.0/16 ${comment} -j MASQUERADE --random-fully`,
    'COMMIT',
    '*filter',
    ':FLANNEL-FWD - [0:0]',
    '-A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD',
    '-A FLANNEL-FWD -s 10.244.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT',
    '-A FLANNEL-FWD -d 10.244.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT',
    'COMMIT',
    '',
  ];
  await node.exec('iptables-nft-restore', ['--noflush'], { input: rules.join('\n') });
}
