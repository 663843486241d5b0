// Builds build/ (plain JavaScript of every source, for the tests), dist/main.js (the program) and dist/cni/twill (the
// self-contained CNI executable).
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { build } from 'esbuild';
import protobuf from 'protobufjs';

const root = dirname(import.meta.dirname);
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const require = createRequire(import.meta.url);

/** Twill calls these; the definitions of the rest of etcd's API cost the agent 20 ms and memory at every start. */
const etcdMethods = {
  KV: ['Range', 'DeleteRange', 'Put', 'Txn'],
  Watch: ['Watch'],
  Lease: ['LeaseGrant', 'LeaseRevoke', 'LeaseKeepAlive'],
  Auth: ['Authenticate'],
};

/** Numbers of 64 bits are costly to read, and every key has these. */
const unusedFields = ['create_revision', 'version'];

/** The services above and the types that they need. */
function usedPart(root) {
  root.resolveAll();
  const { etcdserverpb, mvccpb } = root.nested;
  for (const name of unusedFields) mvccpb.KeyValue.remove(mvccpb.KeyValue.fields[name]);
  // What is read of a value is its text: on the wire both are bytes, and a buffer for each would only be garbage.
  mvccpb.KeyValue.fields.value.type = 'string';
  const used = new Set();
  const use = (type) => {
    if (type === null || used.has(type)) return;
    used.add(type);
    for (const field of type.fieldsArray ?? []) use(field.resolvedType);
    if (type.parent instanceof protobuf.Type) use(type.parent);
  };
  for (const service of etcdserverpb.nestedArray.filter((entry) => entry instanceof protobuf.Service)) {
    for (const method of service.methodsArray) {
      if (!(etcdMethods[service.name] ?? []).includes(method.name)) service.remove(method);
      else for (const type of [method.resolvedRequestType, method.resolvedResponseType]) use(type);
    }
    if (service.methodsArray.length > 0) used.add(service);
  }
  for (const namespace of root.nestedArray)
    for (const entry of namespace.nestedArray) if (!used.has(entry)) namespace.remove(entry);
  return root;
}

/**
 * etcd3 parses its protocol definition from text at every start; in the bundle it is there already parsed, which takes a
 * tenth of the time and needs no file beside the program.
 */
const etcdProto = {
  name: 'etcd3-proto',
  setup({ onLoad }) {
    onLoad({ filter: /etcd3\/lib\/connection-pool\.js$/ }, (args) => {
      const source = readFileSync(args.path, 'utf8');
      const proto = join(dirname(args.path), '../proto/rpc.proto');
      const definition = usedPart(new protobuf.Root().loadSync(proto, { keepCase: true })).toJSON();
      const contents = source.replace(
        /proto_loader_1\.loadSync\)\(`\$\{__dirname\}\/\.\.\/proto\/rpc\.proto`/,
        `proto_loader_1.fromJSON)(${JSON.stringify(definition)}`,
      );
      if (contents === source)
        throw new Error('etcd3 changed: tools/build.mjs no longer finds its proto path');
      return { contents, loader: 'js' };
    });
  },
};

/**
 * gRPC names the server by its address where it has no other name, which newer versions of Node refuse (RFC 6066 knows
 * host names only): no etcd with TLS could be reached by address. Without a name Node checks the certificate against the
 * address, as it should.
 */
const grpcServerName = {
  name: 'grpc-server-name',
  setup({ onLoad }) {
    onLoad({ filter: /grpc-js\/build\/src\/channel-credentials\.js$/ }, (args) => {
      const source = readFileSync(args.path, 'utf8');
      const contents = source.replace(
        'connectionOptions.servername = remoteHost;',
        "connectionOptions.servername = require('node:net').isIP(remoteHost) ? '' : remoteHost;",
      );
      if (contents === source)
        throw new Error('grpc-js changed: tools/build.mjs no longer finds its server name');
      return { contents, loader: 'js' };
    });
  },
};

/**
 * Of the Kubernetes client only the configuration part is used; it drags in the generated client of the whole API, which
 * costs 400 ms and 60 MB, for a function that is never called.
 */
const kubeConfigOnly = {
  name: 'kube-config-only',
  setup({ onLoad, onResolve }) {
    onResolve({ filter: /^\.\/gen\/index\.js$/ }, (args) =>
      /client-node\/dist\/config\.js$/.test(args.importer)
        ? { path: 'unused-api', namespace: 'kube-config-only' }
        : undefined,
    );
    onLoad({ filter: /.*/, namespace: 'kube-config-only' }, () => ({
      contents: 'export class ServerConfiguration {}\nexport function createConfiguration() {}\n',
    }));
  },
};

/**
 * ip-num works out the ranges of private, loopback and other special addresses at every start, which takes 20 ms; none of
 * what needs them is called.
 */
const ipNumWithoutRanges = {
  name: 'ip-num-without-ranges',
  setup({ onLoad }) {
    onLoad({ filter: /ip-num\/dist\/src\/IPNumber\.js$/ }, (args) => {
      const source = readFileSync(args.path, 'utf8');
      const contents = source.replace(/^IPv[46]\.[A-Z_]+_RANGES? = [^;]*;$/gm, '');
      if (contents === source) throw new Error('ip-num changed: tools/build.mjs no longer finds its ranges');
      return { contents, loader: 'js' };
    });
  },
};

function compileTypes() {
  rmSync(join(root, 'build'), { recursive: true, force: true });
  execFileSync(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', root], {
    stdio: 'inherit',
  });
}

/** CommonJS: V8 keeps compiled code of scripts, and Node starts one without setting up its loader of modules. */
async function bundleProgram() {
  await build({
    entryPoints: [join(root, 'src/main.ts')],
    outfile: join(root, 'dist/twill.cjs'),
    bundle: true,
    platform: 'node',
    target: 'node20',
    format: 'cjs',
    charset: 'ascii',
    sourcemap: false,
    minifyWhitespace: true,
    minifySyntax: true,
    legalComments: 'none',
    logLevel: 'warning',
    // Native addons stay in node_modules.
    external: ['koffi', 'netlink', 'netlink/*'],
    plugins: [etcdProto, grpcServerName, kubeConfigOnly, ipNumWithoutRanges],
    define: { TWILL_VERSION: JSON.stringify(version), 'import.meta.dirname': '__dirname' },
  });
  writeFileSync(join(root, 'dist/package.json'), '{ "type": "commonjs" }\n');
  const main = join(root, 'dist/main.js');
  copyFileSync(join(root, 'src/launcher.cjs'), main);
  chmodSync(main, 0o755);
  keepCode('agent', ['agent', '--healthz-port=none']);
  keepCode('program', ['proxy', '--proxy-mode=none']);
}

/** Keeps the code that a command compiles until it finds a flag wrong: everything it loads has then been set up. */
function keepCode(name, command) {
  const file = join(root, `dist/${name}.code`);
  rmSync(file, { force: true });
  execFileSync(process.execPath, [join(root, 'tools/keep-code.cjs'), file, ...command], {
    stdio: ['ignore', 'inherit', 'ignore'],
  });
}

/** Compiles cni-bin with Bun, which is only a build tool here; left alone while the executable is newer than its sources. */
function compileCni() {
  const arch = { x64: 'x64', arm64: 'aarch64' }[process.arch];
  const output = join(root, 'dist/cni/twill');
  const sources = [
    'cni-bin/main.ts',
    'cni-bin/libc.ts',
    'src/pods/plan/protocol.ts',
    'src/process/durable.ts',
    'src/pods/cni/deletions.ts',
    'package.json',
    'tools/build.mjs',
  ].map((file) => join(root, file));
  if (!existsSync(sources[0])) return;
  const built = existsSync(output) ? statSync(output).mtimeMs : 0;
  if (sources.every((file) => statSync(file).mtimeMs < built)) return;
  const bun = require.resolve(`@oven/bun-linux-${arch}/bin/bun`);
  mkdirSync(dirname(output), { recursive: true });
  execFileSync(
    bun,
    [
      'build',
      '--compile',
      '--minify',
      '--bytecode',
      // Otherwise it would read settings from the folder the runtime happens to be in.
      '--no-compile-autoload-dotenv',
      '--no-compile-autoload-bunfig',
      // It lives for 6 ms: compiling its code to machine code costs one more and gains nothing.
      '--compile-jit-policy=1000000',
      sources[0],
      '--outfile',
      `${output}.new`,
      '--define',
      `TWILL_VERSION=${JSON.stringify(version)}`,
    ],
    { stdio: ['ignore', 'ignore', 'inherit'], cwd: join(root, 'dist') },
  );
  // Written at once, a file lies in the page cache in large pieces: starting it maps them in a tenth less time.
  writeFileSync(`${output}.new`, readFileSync(`${output}.new`));
  renameSync(`${output}.new`, output);
}

/** A digest of everything the build reads. */
function digestSources() {
  const hash = createHash('sha256');
  const folders = ['src', 'cni-bin', 'test', 'tools'].filter((folder) => existsSync(join(root, folder)));
  const files = folders.flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name)),
  );
  const settings = ['package.json', 'package-lock.json', 'tsconfig.json'].map((file) => join(root, file));
  for (const file of [...files.sort(), ...settings]) hash.update(`${file}\0`).update(readFileSync(file));
  return hash.digest('hex');
}

// What stands is left alone when nothing changed: another command may be running from it.
const stamp = join(root, 'build/.sources');
const digest = digestSources();
if (!existsSync(stamp) || readFileSync(stamp, 'utf8') !== digest || !existsSync(join(root, 'dist/main.js'))) {
  compileTypes();
  await bundleProgram();
  compileCni();
  writeFileSync(stamp, digest);
}
