// The plugins that the CNI benchmark measures: Twill's, and flannel's chain.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { supportedVersions } from '../../src/pods/plan/protocol.ts';
import { execute } from './spawn.ts';

export const required = ['bridge', 'host-local', 'portmap'];

/** One plugin or chain of plugins under measurement. */
export interface Contestant {
  readonly name: string;
  add(pod: string): Promise<void>;
  remove(pod: string): Promise<void>;
}

/** What a container runtime calls a plugin with. */
export function environment(command: string, pod: string, path: string): NodeJS.ProcessEnv {
  return {
    PATH: process.env.PATH,
    CNI_COMMAND: command,
    CNI_CONTAINERID: pod,
    CNI_NETNS: `/run/netns/${pod}`,
    CNI_IFNAME: 'eth0',
    CNI_PATH: path,
  };
}

/**
 * Copies plugins as an installation does. Those that have lain there for hours may have left the page cache and come
 * back page by page, and then start a third slower: each contestant's do, but at different times.
 */
export function install(sources: readonly string[], directory: string): string {
  mkdirSync(directory);
  for (const source of sources) {
    const target = join(directory, basename(source));
    writeFileSync(target, readFileSync(source), { mode: 0o755 });
  }
  return directory;
}

export function twill(plugin: string, socketPath: string): Contestant {
  const config = JSON.stringify({ cniVersion: '1.0.0', name: 'twill', type: 'twill', socket: socketPath });
  const call = async (command: string, pod: string): Promise<void> => {
    await execute(plugin, environment(command, pod, ''), config);
  };
  return {
    name: 'twill',
    add: (pod) => call('ADD', pod),
    remove: (pod) => call('DEL', pod),
  };
}

/** The newest version of the specification that all of these plugins speak. @throws Error naming the one that does not run */
async function commonVersion(directory: string, plugins: readonly string[]): Promise<string> {
  const spoken = await Promise.all(
    plugins.map(async (plugin) => {
      const output = await execute(
        join(directory, plugin),
        { CNI_COMMAND: 'VERSION' },
        '{"cniVersion":"1.0.0"}',
      );
      return (JSON.parse(output) as { supportedVersions: string[] }).supportedVersions;
    }),
  );
  const common = [...supportedVersions]
    .reverse()
    .find((version) => spoken.every((list) => list.includes(version)));
  if (common === undefined)
    throw new Error(`the plugins of ${directory} speak no common version from 0.3.0 on`);
  return common;
}

/** @throws Error naming the plugins that are not in the folder */
export function assertPlugins(directory: string): void {
  const missing = ['bridge', 'host-local', 'portmap'].filter(
    (plugin) => !existsSync(join(directory, plugin)),
  );
  if (missing.length > 0)
    throw new Error(
      `--peer-cni-dir ${directory} has no ${missing.join(', ')}: it must hold flannel, bridge, host-local and portmap`,
    );
}

/** The chain of flannel's conflist: flannel (or, where it is not there, what it delegates to), then portmap. */
export async function peerChain(directory: string, scratch: string): Promise<Contestant> {
  const hasFlannel = existsSync(join(directory, 'flannel'));
  const subnetFile = join(scratch, 'subnet.env');
  writeFileSync(
    subnetFile,
    'FLANNEL_NETWORK=10.245.0.0/16\nFLANNEL_SUBNET=10.245.7.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n',
  );
  const plugins = [...(hasFlannel ? ['flannel'] : []), ...required];
  const common = { cniVersion: await commonVersion(directory, plugins), name: 'peer' };
  const bridge = { bridge: 'peer0', hairpinMode: true, isDefaultGateway: true };
  const first = hasFlannel
    ? { ...common, type: 'flannel', subnetFile, dataDir: join(scratch, 'flannel'), delegate: bridge }
    : {
        ...common,
        type: 'bridge',
        ...bridge,
        mtu: 1450,
        ipMasq: false,
        ipam: {
          type: 'host-local',
          dataDir: join(scratch, 'ipam'),
          ranges: [[{ subnet: '10.245.7.0/24' }]],
          routes: [{ dst: '10.245.0.0/16' }],
        },
      };
  const second = { ...common, type: 'portmap', snat: true };
  const results = new Map<string, unknown>();
  const call = (
    command: string,
    pod: string,
    config: { type: string; prevResult?: unknown },
  ): Promise<string> =>
    execute(join(directory, config.type), environment(command, pod, directory), JSON.stringify(config));
  return {
    name: hasFlannel ? 'flannel chain' : 'bridge chain (no flannel binary)',
    async add(pod) {
      const prevResult: unknown = JSON.parse(await call('ADD', pod, first));
      results.set(pod, prevResult);
      await call('ADD', pod, { ...second, prevResult });
    },
    async remove(pod) {
      const prevResult = results.get(pod);
      await call('DEL', pod, { ...second, prevResult });
      await call('DEL', pod, { ...first, prevResult });
    },
  };
}
