// The root folder of an emulated machine of another architecture than this one's: Debian's programs and kernel, and the Node
// of tools/image-node. Nothing of it is run here, so its packages are unpacked, and not set up.
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeDebian, nodeFolder } from './image-base.mjs';
import { installFor } from './target.mjs';

const debianNames = { x64: 'amd64', arm64: 'arm64' };

/** What Node, the program and its tests' guest (test/lab/guest) need. */
const packages = [
  ...['bash', 'busybox-static', 'coreutils', 'dash', 'libatomic1', 'libc6', 'libstdc++6', 'util-linux'],
  ...['conntrack', 'etcd-server', 'iproute2', 'iptables', 'nftables'],
];

/** @param target an empty folder. @throws Error naming the program that failed */
export async function makeOtherRoot(target, architecture) {
  const debian = debianNames[architecture];
  const included = [...packages, `linux-image-${debian}`].join();
  await makeDebian(target, ['--variant=extract', `--architectures=${debian}`, `--include=${included}`]);
  const [kernel] = readdirSync(join(target, 'lib/modules'));
  const { status } = spawnSync('busybox', ['depmod', '-b', target, kernel], { stdio: ['ignore', 2, 2] });
  if (status !== 0) throw new Error(`busybox depmod failed for ${target}`);
  writeFileSync(join(target, 'etc/hosts'), '127.0.0.1 localhost\n');
  const node = join(
    installFor(architecture, nodeFolder, 'image-node'),
    'node_modules',
    `node-linux-${architecture}`,
  );
  mkdirSync(join(target, 'usr/local/bin'), { recursive: true });
  cpSync(join(node, 'bin/node'), join(target, 'usr/local/bin/node'));
}
