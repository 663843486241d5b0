// Bundles the program: a file of everything but the native addons for agent, proxy and all other commands each, and the
// code that V8 makes of it.
import { chmodSync, copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { build } from 'esbuild';
import { keepCode } from './kept-code.mjs';
import { licences } from './licences.mjs';
import { etcdProto } from './rewrites/etcd3-proto.mjs';
import { grpcServerName } from './rewrites/grpc-server-name.mjs';
import { ipNumWithoutRanges } from './rewrites/ip-num-ranges.mjs';
import { kubeConfigOnly } from './rewrites/kube-config-only.mjs';
import { nodeFetchHeaders } from './rewrites/node-fetch-headers.mjs';
import { sbom } from './sbom.mjs';
import { addonFiles } from './ship.mjs';
import { bunPackage } from './target.mjs';

const root = dirname(import.meta.dirname);
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

/** What is changed in libraries; each file says why, and when it can go. */
export const rewrites = [etcdProto, grpcServerName, kubeConfigOnly, ipNumWithoutRanges, nodeFetchHeaders];

/** Native addons are not bundled: they stay in node_modules. */
const addons = ['koffi', 'netlink'];

/** Commands that run for as long as the node does have a program of their own; `twill` has all others. */
const resident = ['agent', 'proxy'];

/**
 * Leaves out what other commands import when they are called. V8 keeps the text of all that it was given: a megabyte less
 * of it is a megabyte less on every node, twice.
 */
function implementationsFor(name) {
  const wanted = (command) => (name === 'twill' ? !resident.includes(command) : command === name);
  return {
    name: 'implementations',
    setup({ onResolve }) {
      onResolve({ filter: /^\.\.\// }, ({ importer, kind, path }) => {
        const called = kind === 'dynamic-import' && dirname(importer) === join(root, 'src/commands');
        return called && !wanted(basename(importer, '.ts')) ? { path, external: true } : undefined;
      });
    },
  };
}

/** CommonJS: V8 keeps compiled code of scripts, and Node starts one without setting up its loader of modules. */
async function bundle(folder, name, plugins) {
  const { metafile } = await build({
    entryPoints: [join(root, 'src/main.ts')],
    outfile: join(folder, `${name}.cjs`),
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
    plugins: [implementationsFor(name), ...plugins],
    define: { TWILL_VERSION: JSON.stringify(version), 'import.meta.dirname': '__dirname' },
  });
  return Object.keys(metafile.inputs);
}

export async function bundleProgram(folder, plugins = rewrites) {
  const names = [...resident, 'twill'];
  const inputs = await Promise.all(names.map((name) => bundle(folder, name, plugins)));
  const bundled = [...new Set(inputs.flat())].sort();
  writeFileSync(join(folder, 'THIRD-PARTY-LICENSES'), licences(root, bundled));
  // The CNI executable has Bun in it.
  const list = sbom(root, [...bundled, ...addonFiles(process.arch)], [bunPackage(process.arch)]);
  writeFileSync(join(folder, 'sbom.cdx.json'), `${JSON.stringify(list, undefined, 2)}\n`);
  writeFileSync(join(folder, 'package.json'), '{ "type": "commonjs" }\n');
  const main = join(folder, 'main.js');
  copyFileSync(join(root, 'src/launcher.cjs'), main);
  chmodSync(main, 0o755);
  keepCode(folder);
}
