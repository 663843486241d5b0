import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { earlierConfigurations } from '../../pods/cni/configurations.ts';
import { readFileIfPresent } from '../../process/files.ts';
import { findOtherProxy } from '../../services/other-proxy.ts';
import { bad, good, type PreflightCheck, poor } from '../plan/preflight.ts';

/** Names of the programs that run, as the kernel has them (15 characters). */
function running(): Map<string, number> {
  const found = new Map<string, number>();
  for (const pid of readdirSync('/proc')) {
    if (!/^\d+$/.test(pid)) continue;
    const name = readFileIfPresent(`/proc/${pid}/comm`)?.trim();
    if (name !== undefined && name !== '') found.set(name, Number(pid));
  }
  return found;
}

/** Programs that make another pod network, or other rules, of this node. */
const others: readonly { readonly name: string; readonly what: string; readonly advice: string }[] = [
  {
    name: 'flanneld',
    what: 'flannel keeps the same devices and routes',
    advice: 'stop it before twill agent starts: its subnet, devices and rules are taken over',
  },
  {
    name: 'calico-node',
    what: 'Calico makes a pod network, too',
    advice: 'remove it, or leave the node to it',
  },
  {
    name: 'cilium-agent',
    what: 'Cilium makes a pod network, too',
    advice: 'remove it, or leave the node to it',
  },
  { name: 'kube-router', what: 'kube-router makes a pod network and rules, too', advice: 'remove it' },
  { name: 'antrea-agent', what: 'Antrea makes a pod network, too', advice: 'remove it' },
];

function networkManager(programs: ReadonlyMap<string, number>, root: string): PreflightCheck[] {
  if (!programs.has('NetworkManager')) return [];
  const folders = ['etc/NetworkManager/conf.d', 'usr/lib/NetworkManager/conf.d', 'run/NetworkManager/conf.d'];
  const texts = folders.flatMap((folder) => {
    const path = join(root, folder);
    return existsSync(path) ? readdirSync(path).map((name) => readFileIfPresent(join(path, name)) ?? '') : [];
  });
  const told = texts.some((text) => /^unmanaged-devices=.*(flannel|cni)/m.test(text));
  if (told) return [good('neighbours', 'NetworkManager', "leaves the pods' devices alone")];
  return [
    poor(
      'neighbours',
      'NetworkManager',
      "runs, and nothing tells it to leave the pods' devices alone: it may take their addresses and routes away",
      "write '[keyfile]' and 'unmanaged-devices=interface-name:flannel*;interface-name:cni*;interface-name:veth*' to /etc/NetworkManager/conf.d/twill.conf, and reload it",
    ),
  ];
}

function networkd(programs: ReadonlyMap<string, number>, root: string): PreflightCheck[] {
  if (!programs.has('systemd-network')) return [];
  const folder = join(root, 'etc/systemd/networkd.conf.d');
  const files = existsSync(folder) ? readdirSync(folder).map((name) => join(folder, name)) : [];
  const text = [join(root, 'etc/systemd/networkd.conf'), ...files]
    .map((path) => readFileIfPresent(path) ?? '')
    .join('\n');
  if (/^ManageForeignRoutes=(no|false|0)/m.test(text))
    return [good('neighbours', 'systemd-networkd', 'leaves routes of others alone')];
  return [
    poor(
      'neighbours',
      'systemd-networkd',
      'runs, and removes routes and rules that are not its own when it starts again: the agent puts them back, with a gap',
      "write '[Network]' and 'ManageForeignRoutes=no' (and ManageForeignRoutingPolicyRules=no, ManageForeignNextHops=no) to /etc/systemd/networkd.conf.d/twill.conf",
    ),
  ];
}

function macPolicy(root: string): PreflightCheck[] {
  const path = join(root, 'usr/lib/systemd/network/99-default.link');
  if (!/^MACAddressPolicy=persistent/m.test(readFileIfPresent(path) ?? '')) return [];
  return [
    good(
      'neighbours',
      'udev',
      'gives new devices MAC addresses of its own; the VXLAN device gets its one back',
    ),
  ];
}

function configurations(directory: string): PreflightCheck[] {
  const names = existsSync(directory)
    ? readdirSync(directory).filter((name) => /\.(conf|conflist|json)$/.test(name))
    : [];
  const earlier = earlierConfigurations(directory);
  const ours = names.filter((name) => /twill/.test(readFileIfPresent(join(directory, name)) ?? ''));
  const advice = 'twill install-cni --replace sets it aside';
  if (earlier.length > 0)
    return [
      bad(
        'neighbours',
        'CNI configuration',
        `the runtime uses ${earlier[0]}, which sorts before ${ours[0]}`,
        advice,
      ),
    ];
  if (names.length > 0 && ours.length === 0)
    return [
      poor('neighbours', 'CNI configuration', `the runtime uses ${names.sort()[0]} in ${directory}`, advice),
    ];
  const detail = ours.length > 0 ? `${ours[0]} comes first` : `none in ${directory} yet`;
  return [good('neighbours', 'CNI configuration', detail)];
}

/** Who else works on the node's network. @param root where the node's files are */
export async function neighbourChecks(confDir: string, root = '/'): Promise<PreflightCheck[]> {
  const programs = running();
  const found: PreflightCheck[] = others.flatMap(({ name, what, advice }) =>
    programs.has(name.slice(0, 15))
      ? [poor('neighbours', name, `runs (process ${programs.get(name.slice(0, 15))}): ${what}`, advice)]
      : [],
  );
  const proxy = await findOtherProxy();
  if (proxy !== undefined)
    found.push(
      poor(
        'neighbours',
        'service proxy',
        `${proxy} runs: twill proxy waits until it ends`,
        'remove it before twill proxy is to serve; its rules are taken over',
      ),
    );
  if (programs.has('firewalld'))
    found.push(
      poor(
        'neighbours',
        'firewalld',
        'runs: it drops what is not allowed, and a reload takes rules away for a moment',
        'firewall-cmd --permanent --zone=trusted --add-interface=cni0 --add-interface=flannel.1; firewall-cmd --permanent --add-port=8472/udp; firewall-cmd --reload',
      ),
    );
  if (found.length === 0)
    found.push(good('neighbours', 'other programs', 'no other pod network, proxy or firewall runs'));
  return [
    ...found,
    ...networkManager(programs, root),
    ...networkd(programs, root),
    ...macPolicy(root),
    ...configurations(confDir),
  ];
}
