// The Debian packages that demo and tests need, and how they come onto the machine.
import { spawnSync } from 'node:child_process';
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const aptGet = '/usr/bin/apt-get';
const policyFile = '/usr/sbin/policy-rc.d';
const lockTimeoutSeconds = 120;

/** `tests`: needed only by test files whose path contains it; everything else is needed by whatever touches the kernel. */
const packages = [
  { package: 'iproute2', program: 'ip' },
  { package: 'iptables', program: 'iptables-nft' },
  { package: 'nftables', program: 'nft' },
  { package: 'conntrack', program: 'conntrack' },
  { package: 'etcd-server', program: 'etcd' },
  { package: 'strace', program: 'strace', tests: 'e2e/agent/without-ipv6' },
  { package: 'openssl', program: 'openssl', tests: 'e2e/leases/etcd-access' },
  { package: 'faketime', program: 'faketime', tests: 'e2e/agent/clock' },
  { package: 'dnsmasq-base', program: 'dnsmasq', tests: 'e2e/services/servers' },
  { package: 'nginx-light', program: 'nginx', tests: 'e2e/services/servers' },
  { package: 'containernetworking-plugins', program: '../lib/cni/sbr', tests: 'kernel/pods/chain' },
  { package: 'containerd', program: 'containerd', tests: 'e2e/pods/containerd' },
  { package: 'runc', program: 'runc', tests: 'e2e/pods/containerd' },
  { package: 'runc', program: 'runc', tests: 'e2e/deploy' },
  { package: 'openssl', program: 'openssl', tests: 'e2e/deploy' },
  { package: 'kubernetes-client', program: 'kubectl', tests: 'e2e/deploy/overlays' },
  {
    package: 'golang-github-containers-common',
    program: '/usr/share/containers/seccomp.json',
    tests: 'e2e/deploy',
  },
  { package: 'containernetworking-plugins', program: '/usr/lib/cni/portmap', tests: 'kernel/pods/adoption' },
  { package: 'containernetworking-plugins', program: '/usr/lib/cni/portmap', tests: 'e2e/pods/migration' },
  { package: 'containernetworking-plugins', program: '/usr/lib/cni/loopback', tests: 'e2e/pods/containerd' },
  { package: 'busybox-static', program: 'busybox', tests: 'e2e/pods/containerd' },
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

/**
 * Installs what is missing.
 * @param wanted whether a test file whose path contains this word will run
 * @returns undefined, or what is wrong and what to do about it
 */
export function ensurePackages(wanted) {
  const missing = packages.filter(
    (entry) => (entry.tests === undefined || wanted(entry.tests)) && !installed(entry),
  );
  const names = [...new Set(missing.map((entry) => entry.package))];
  if (process.getuid() !== 0) {
    const also = names.length === 0 ? '' : `\nMissing, too: apt-get install ${names.join(' ')}`;
    return `This makes network namespaces, links and rules, and so has to run as root (sudo npm …).${also}`;
  }
  if (names.length === 0) return undefined;
  if (existsSync(aptGet)) return install(names);
  return `There is no apt-get here. Install what these Debian packages contain: ${names.join(' ')}`;
}
