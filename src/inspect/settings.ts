import { readSysctl } from '../kernel/sysctl.ts';
import type { Family } from '../model/address.ts';
import type { Difference } from './plan/difference.ts';

const wanted = {
  ipv4: [
    ['net/ipv4/ip_forward', 'nothing is forwarded between pods and other nodes'],
    [
      'net/bridge/bridge-nf-call-iptables',
      'a pod does not reach a ClusterIP whose endpoint is on its own node',
    ],
  ],
  ipv6: [
    ['net/ipv6/conf/all/forwarding', 'nothing is forwarded between pods and other nodes'],
    [
      'net/bridge/bridge-nf-call-ip6tables',
      'a pod does not reach a ClusterIP whose endpoint is on its own node',
    ],
  ],
} as const;

/** Settings of the kernel that pods' traffic needs and that are not as it needs them. */
export function settingDifferences(families: readonly Family[]): Difference[] {
  return families.flatMap(({ name }) =>
    wanted[name].flatMap(([setting, consequence]): Difference[] => {
      const value = readSysctl(setting);
      if (value === '1') return [];
      const object = setting.replaceAll('/', '.');
      const base = { kind: 'sysctl', object, show: `sysctl ${object}` } as const;
      return value === undefined
        ? [
            {
              ...base,
              state: 'missing',
              detail: `the kernel module br_netfilter is not loaded (modprobe br_netfilter): ${consequence}`,
            },
          ]
        : [{ ...base, state: 'wrong', detail: `is ${value}, should be 1: ${consequence}` }];
    }),
  );
}
