// The Debian packages that demo and tests need, and how they come onto the machine.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

const aptGet = '/usr/bin/apt-get';
const policyFile = '/usr/sbin/policy-rc.d';
const lockTimeoutSeconds = 120;

/**
 * `tests`: needed only by test files whose path contains it; `command`: only by that npm script; everything else is needed
 * by whatever touches the kernel.
 */
const packages = [
  { package: 'iproute2', program: 'ip' },
  { package: 'iptables', program: 'iptables-nft' },
  { package: 'nftables', program: 'nft' },
  { package: 'conntrack', program: 'conntrack' },
  { package: 'etcd-server', program: 'etcd' },
  { package: 'iputils-ping', program: 'ping', tests: 'e2e/inspect/preflight' },
  { package: 'prometheus', program: 'promtool', tests: 'e2e/inspect/alerts' },
  { package: 'strace', program: 'strace', tests: 'e2e/agent/without-ipv6' },
  { package: 'openssl', program: 'openssl', tests: 'e2e/leases/etcd-access' },
  { package: 'chromium', program: 'chromium', tests: 'e2e/agent/page' },
  { package: 'faketime', program: 'faketime', tests: 'e2e/agent/clock' },
  { package: 'dnsmasq-base', program: 'dnsmasq', tests: 'e2e/services/servers' },
  { package: 'nginx-light', program: 'nginx', tests: 'e2e/services/servers' },
  { package: 'containernetworking-plugins', program: '../lib/cni/sbr', tests: 'kernel/pods/chain' },
  { package: 'containerd', program: 'containerd', tests: 'e2e/pods/containerd' },
  { package: 'runc', program: 'runc', tests: 'e2e/pods/containerd' },
  { package: 'runc', program: 'runc', tests: 'e2e/deploy' },
  { package: 'openssl', program: 'openssl', tests: 'e2e/deploy' },
  ...[
    { package: 'containerd', program: 'containerd' },
    { package: 'runc', program: 'runc' },
    { package: 'openssl', program: 'openssl' },
    { package: 'busybox-static', program: 'busybox' },
    { package: 'containernetworking-plugins', program: '/usr/lib/cni/loopback' },
  ].map((entry) => ({ ...entry, tests: 'e2e/cluster-real' })),
  { package: 'kubernetes-client', program: 'kubectl', tests: 'e2e/deploy/overlays' },
  { package: 'kubernetes-client', program: 'kubectl', tests: 'e2e/deploy/apiserver' },
  {
    package: 'golang-github-containers-common',
    program: '/usr/share/containers/seccomp.json',
    tests: 'e2e/deploy',
  },
  { package: 'containernetworking-plugins', program: '/usr/lib/cni/portmap', tests: 'kernel/pods/adoption' },
  { package: 'containernetworking-plugins', program: '/usr/lib/cni/portmap', tests: 'e2e/pods/migration' },
  { package: 'containernetworking-plugins', program: '/usr/lib/cni/loopback', tests: 'e2e/pods/containerd' },
  { package: 'buildah', program: 'buildah', command: 'image' },
  { package: 'mmdebstrap', program: 'mmdebstrap', command: 'image' },
  { package: 'busybox-static', program: 'busybox', command: 'image --check-all' },
  // A machine of the other architecture.
  process.arch === 'arm64'
    ? { package: 'qemu-system-x86', program: 'qemu-system-x86_64', command: 'image --check-all' }
    : { package: 'qemu-system-arm', program: 'qemu-system-aarch64', command: 'image --check-all' },
  { package: 'busybox-static', program: 'busybox', tests: 'e2e/pods/containerd' },
  { package: 'busybox-static', program: 'busybox', tests: 'e2e/hosts/machines' },
  process.arch === 'arm64'
    ? { package: 'qemu-system-arm', program: 'qemu-system-aarch64', tests: 'e2e/hosts/machines' }
    : { package: 'qemu-system-x86', program: 'qemu-system-x86_64', tests: 'e2e/hosts/machines' },
];

/** A kernel for machines of the tests' own. It is unpacked, not installed: this machine's next start is not ours. */
const kernel = {
  package: process.arch === 'arm64' ? 'linux-image-arm64' : 'linux-image-amd64',
  tests: 'e2e/hosts/machines',
};
const kernelFolder = join(dirname(import.meta.dirname), 'node_modules/.cache/debian-kernel');
/** What of it is used: the rest is ten times as much. */
const kernelParts = [
  ...['boot/vmlinuz-*', 'lib/modules/*/modules.*'],
  ...[
    'net',
    'lib',
    'crypto',
    'arch/*/crypto',
    'drivers/net',
    'drivers/virtio',
    'fs/9p',
    'fs/netfs',
    'fs/fscache',
  ].map((folder) => `lib/modules/*/kernel/${folder}/*`),
  'lib/modules/*/kernel/fs/overlayfs/*',
];

function installed({ program }) {
  if (program.startsWith('/')) return existsSync(program);
  const path = `${process.env.PATH}:/usr/sbin:/sbin`;
  return path.split(':').some((folder) => existsSync(join(folder, program)));
}

function pause(milliseconds) {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);
}

/** apt-get waits by itself for dpkg's lock, but not for the one on the package lists. */
function apt(...args) {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const options = ['-q', '-o', `DPkg::Lock::Timeout=${lockTimeoutSeconds}`];
  const deadline = Date.now() + lockTimeoutSeconds * 1000;
  for (;;) {
    const result = spawnSync(aptGet, [...options, ...args], { env, encoding: 'utf8' });
    const locked = result.status !== 0 && /could not get lock|unable to lock/i.test(result.stderr);
    if (!locked || Date.now() > deadline) return result;
    pause(1000);
  }
}

/** Runs `work` while Debian's maintainer scripts may not start services: etcd is to be installed, not to run. */
function withoutServices(work) {
  const ours = !existsSync(policyFile);
  if (ours) writeFileSync(policyFile, '#!/bin/sh\nexit 101\n', { mode: 0o755 });
  try {
    return work();
  } finally {
    if (ours) rmSync(policyFile);
  }
}

function install(names) {
  process.stderr.write(`installing Debian packages: ${names.join(' ')}…\n`);
  const updated = apt('update');
  const result = withoutServices(() => apt('install', '-y', '--no-install-recommends', ...names));
  if (result.status === 0) return undefined;
  return `could not install ${names.join(' ')}:\n${updated.stderr}${result.stdout}${result.stderr}`;
}

function runIn(folder, program, ...args) {
  const result = spawnSync(program, args, { cwd: folder, encoding: 'utf8', maxBuffer: 1 << 30 });
  return result.status === 0
    ? undefined
    : `${program} ${args.join(' ')}: ${result.stderr ?? result.error?.message}`;
}

/** The package that a package of no content depends on. */
function dependencyOf(name) {
  const shown = spawnSync('apt-cache', ['depends', name], { encoding: 'utf8' }).stdout ?? '';
  return /Depends: (linux-image-\S+)/.exec(shown)?.[1];
}

function unpackKernel() {
  process.stderr.write(`unpacking a kernel for tests: ${kernel.package}…\n`);
  apt('update');
  mkdirSync(dirname(kernelFolder), { recursive: true });
  const folder = mkdtempSync(`${kernelFolder}-`);
  const name = dependencyOf(kernel.package);
  const script = `dpkg-deb --fsys-tarfile ./*.deb | tar -x --wildcards ${kernelParts.map((part) => `'./${part}'`).join(' ')}`;
  const steps = [
    () => runIn(folder, 'apt-get', '-q', 'download', name ?? kernel.package),
    () => runIn(folder, 'sh', '-ec', `${script}; rm ./*.deb`),
    () => runIn(folder, 'busybox', 'depmod', '-b', folder, readdirSync(join(folder, 'lib/modules'))[0]),
  ];
  for (const step of steps) {
    const problem = step();
    if (problem !== undefined) {
      rmSync(folder, { recursive: true, force: true });
      return `could not unpack a kernel: ${problem}`;
    }
  }
  rmSync(kernelFolder, { recursive: true, force: true });
  renameSync(folder, kernelFolder);
  return undefined;
}

/**
 * Installs what is missing.
 * @param wanted whether a test file whose path contains this word will run
 * @param script the npm script
 * @returns undefined, or what is wrong and what to do about it
 */
export function ensurePackages(wanted, script) {
  const missing = packages.filter(
    (entry) =>
      (entry.tests === undefined || wanted(entry.tests)) &&
      (entry.command === undefined || entry.command === script) &&
      !installed(entry),
  );
  const names = [...new Set(missing.map((entry) => entry.package))];
  if (process.getuid() !== 0) {
    const also = names.length === 0 ? '' : `\nMissing, too: apt-get install ${names.join(' ')}`;
    return `This makes network namespaces, links and rules, and so has to run as root (sudo npm …).${also}`;
  }
  const wantsKernel = wanted(kernel.tests) && !existsSync(kernelFolder);
  if (names.length === 0 && !wantsKernel) return undefined;
  if (existsSync(aptGet)) {
    const problem = names.length === 0 ? undefined : install(names);
    return problem ?? (wantsKernel ? unpackKernel() : undefined);
  }
  const content = wantsKernel ? [...names, `${kernel.package} (unpacked in ${kernelFolder})`] : names;
  return `There is no apt-get here. Install what these Debian packages contain: ${content.join(', ')}`;
}
