// Bundles the program: one file of everything but the native addons, and the code that V8 makes of it.
import { execFileSync } from 'node:child_process';
import { chmodSync, copyFileSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { build } from 'esbuild';
import { licences } from './licences.mjs';
import { etcdProto } from './rewrites/etcd3-proto.mjs';
import { grpcServerName } from './rewrites/grpc-server-name.mjs';
import { ipNumWithoutRanges } from './rewrites/ip-num-ranges.mjs';
import { kubeConfigOnly } from './rewrites/kube-config-only.mjs';
import { nodeFetchHeaders } from './rewrites/node-fetch-headers.mjs';
import { sbom } from './sbom.mjs';
import { addonFiles } from './ship.mjs';

const root = dirname(import.meta.dirname);
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

/** What is changed in libraries; each file says why, and when it can go. */
export const rewrites = [etcdProto, grpcServerName, kubeConfigOnly, ipNumWithoutRanges, nodeFetchHeaders];

/** Native addons are not bundled: they stay in node_modules. */
const addons = ['koffi', 'netlink'];

/** CommonJS: V8 keeps compiled code of scripts, and Node starts one without setting up its loader of modules. */
export async function bundleProgram(folder, plugins = rewrites) {
  const { metafile } = await build({
    entryPoints: [join(root, 'src/main.ts')],
    outfile: join(folder, 'twill.cjs'),
    bundle: true,
    metafile: true,
    absWorkingDir: root,
    platform: 'node',
    target: 'node20',
    format: 'cjs',
    charset: 'ascii',
    sourcemap: false,
    minifyWhitespace: true,
    minifySyntax: true,
    legalComments: 'none',
    logLevel: 'warning',
    external: addons.flatMap((name) => [name, `${name}/*`]),
    plugins,
    define: { TWILL_VERSION: JSON.stringify(version), 'import.meta.dirname': '__dirname' },
  });
  const bundled = Object.keys(metafile.inputs);
  writeFileSync(join(folder, 'THIRD-PARTY-LICENSES'), licences(root, bundled));
  // The CNI executable has Bun in it.
  const bun = `node_modules/@oven/bun-linux-${process.arch === 'x64' ? 'x64' : 'aarch64'}`;
  const list = sbom(root, [...bundled, ...addonFiles], [bun]);
  writeFileSync(join(folder, 'sbom.cdx.json'), `${JSON.stringify(list, undefined, 2)}\n`);
  writeFileSync(join(folder, 'package.json'), '{ "type": "commonjs" }\n');
  const main = join(folder, 'main.js');
  copyFileSync(join(root, 'src/launcher.cjs'), main);
  chmodSync(main, 0o755);
  keepCode(folder, 'agent', ['agent', '--healthz-port=none']);
  keepCode(folder, 'program', ['proxy', '--proxy-mode=none']);
}

/** Keeps the code that a command compiles until it finds a flag wrong: everything it loads has then been set up. */
function keepCode(folder, name, command) {
  const file = join(folder, `${name}.code`);
  rmSync(file, { force: true });
  execFileSync(process.execPath, [join(root, 'tools/keep-code.cjs'), file, ...command], {
    stdio: ['ignore', 'inherit', 'ignore'],
  });
}
