/** Containers of a manifest's pods, run by Debian's runc as a container runtime runs them. */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { controlGroupPrefix, ownerVariable } from './cleanup.ts';
import { root as repository, twillProgram } from './files.ts';
import { httpStatus } from './http.ts';
import type { Manifest, ManifestContainer, PodSpec, Volume } from './manifests.ts';
import type { LabNode } from './node.ts';
import { LabProcess } from './process.ts';
import { runtimeDefaultSeccomp } from './seccomp.ts';
import { GiveUp, waitFor } from './wait.ts';

export interface PodRuntimeOptions {
  readonly node: LabNode;
  readonly manifests: readonly Manifest[];
  /** Root of the image's file system; without it this machine's, with the program that was built. */
  readonly imageRoot?: string;
  /** What is at /var/run/secrets/kubernetes.io/serviceaccount, by the account's name. */
  readonly serviceAccount: (name: string) => { readonly token: string; readonly ca: string };
  /** Files by name, by the Secret's name. */
  readonly secrets?: Readonly<Record<string, Readonly<Record<string, string>>>>;
  /** Address and port of the API that pods are told. */
  readonly apiService: { readonly host: string; readonly port: number };
}

/** Paths that are the kernel's, the same for all nodes of the lab but for the network namespace they are looked at from. */
const kernelPaths = ['/proc/sys/net', '/run/netns'];

const masked = ['acpi', 'asound', 'kcore', 'keys', 'latency_stats', 'timer_list', 'timer_stats', 'scsi'];
const readonlyProc = ['bus', 'fs', 'irq', 'sys', 'sysrq-trigger'];

const systemMounts = [
  { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
  { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'mode=755', 'size=65536k'] },
  { destination: '/dev/pts', type: 'devpts', source: 'devpts', options: ['nosuid', 'noexec', 'newinstance'] },
  { destination: '/dev/shm', type: 'tmpfs', source: 'shm', options: ['nosuid', 'noexec', 'nodev'] },
  { destination: '/sys', type: 'sysfs', source: 'sysfs', options: ['nosuid', 'noexec', 'nodev', 'ro'] },
];

/** What of a container's rights a test changes. */
export interface Changes {
  readonly withoutCapability?: string;
  readonly privileged?: boolean;
  readonly args?: readonly string[];
}

/** Runs the pods of a manifest's DaemonSets on one node of the lab. */
export class PodRuntime {
  readonly options: PodRuntimeOptions;
  private count = 0;

  constructor(options: PodRuntimeOptions) {
    this.options = options;
  }

  /** Where a path of the node is: all nodes of the lab share one file system. */
  hostPath(path: string): string {
    return kernelPaths.includes(path) ? path : join(this.options.node.dir, 'host', path);
  }

  /** Runs the init containers one after the other. @throws Error when one fails */
  async initialize(pod: PodSpec): Promise<void> {
    for (const container of pod.initContainers ?? []) await this.runToEnd(pod, container);
  }

  /** @throws Error with what it said when it fails. @returns what it said */
  async runToEnd(pod: PodSpec, container: ManifestContainer, changes: Changes = {}): Promise<string> {
    const started = await this.start(pod, container, changes);
    await waitFor(`${container.name} to end`, () => !started.running, { explain: () => started.tail() });
    if (started.exitCode !== 0) throw new Error(`${container.name} failed\n${started.tail()}`);
    return started.log();
  }

  async start(pod: PodSpec, container: ManifestContainer, changes: Changes = {}): Promise<LabProcess> {
    const { node } = this.options;
    const name = `${container.name}-${++this.count}`;
    const bundle = join(node.dir, 'bundles', name);
    mkdirSync(join(bundle, 'rootfs'), { recursive: true });
    mkdirSync(join(bundle, 'layer'));
    writeFileSync(
      join(bundle, 'config.json'),
      JSON.stringify(this.configuration(pod, container, changes, name)),
    );
    // What an image has is never written to; places to mount at are made in a layer of the container's own.
    const script = `
      mount -t tmpfs none layer
      mkdir layer/upper layer/work
      mount -t overlay none -o lowerdir="$LOWER",upperdir=layer/upper,workdir=layer/work rootfs
      exec runc --root ../runc run "$NAME"`;
    const process = new LabProcess({
      name: `${container.name} of ${node.name}`,
      namespace: node.namespace,
      program: 'nsenter',
      // \`ip netns exec\` hides /sys/fs/cgroup from what it runs: back to the mounts of this process first.
      args: [`--target=${globalThis.process.pid}`, '--mount', '--root', `--wdns=${bundle}`].concat([
        'unshare',
        '--mount',
        '--propagation=slave',
        'sh',
        '-ec',
        script,
      ]),
      cwd: bundle,
      logFile: join(bundle, 'log'),
      env: { NAME: `${node.guard.id}-${node.name}-${name}`, LOWER: this.options.imageRoot ?? '/' },
    });
    await process.start();
    return process;
  }

  /** Resolves when the probe succeeds, as a kubelet asks. */
  async probe(
    container: ManifestContainer,
    started: LabProcess,
    kind: 'startupProbe' | 'livenessProbe' | 'readinessProbe',
  ): Promise<void> {
    const { port, path } = container[kind]!.httpGet;
    await waitFor(
      `the ${kind} of ${container.name}`,
      async () => {
        if (!started.running) throw new GiveUp(`it has ended\n${started.tail()}`);
        return (await httpStatus(this.options.node.namespace, port, path)) === 200;
      },
      { explain: () => started.tail() },
    );
  }

  private configuration(pod: PodSpec, container: ManifestContainer, changes: Changes, name: string): object {
    const { node, imageRoot } = this.options;
    const context = container.securityContext ?? {};
    if (context.capabilities?.drop?.join() !== 'ALL')
      throw new Error(`${container.name} drops not all capabilities`);
    const capabilities = (context.capabilities.add ?? [])
      .map((one) => `CAP_${one}`)
      .filter((one) => one !== `CAP_${changes.withoutCapability}`);
    const entrypoint = container.command ?? [imageRoot === undefined ? twillProgram : '/usr/local/bin/twill'];
    const env = this.environment(container);
    const expand = (text: string): string =>
      text.replace(/\$\(([A-Z_]+)\)/g, (whole, variable: string) => env[variable] ?? whole);
    return {
      ociVersion: '1.0.2',
      root: { path: 'rootfs', readonly: context.readOnlyRootFilesystem === true },
      process: {
        user: { uid: 0, gid: 0 },
        args: [...entrypoint, ...(changes.args ?? container.args ?? []).map(expand)],
        env: Object.entries(env).map(([variable, value]) => `${variable}=${value}`),
        cwd: '/',
        noNewPrivileges: context.allowPrivilegeEscalation === false,
        capabilities: { bounding: capabilities, effective: capabilities, permitted: capabilities },
      },
      mounts: [...systemMounts, ...this.mounts(pod, container)],
      linux: {
        cgroupsPath: `/${controlGroupPrefix(node.guard.id)}${node.name}-${name}`,
        namespaces: [
          ...(pod.hostPID === true ? [] : [{ type: 'pid' }]),
          { type: 'ipc' },
          { type: 'mount' },
          { type: 'network', path: node.namespace.path },
        ],
        // A container runtime's default, where a mount is to follow the node's.
        rootfsPropagation: 'rslave',
        maskedPaths: [...masked.map((path) => `/proc/${path}`), '/sys/firmware'],
        readonlyPaths: readonlyProc.map((path) => `/proc/${path}`),
        seccomp: runtimeDefaultSeccomp(capabilities),
        resources: { devices: [{ allow: false, access: 'rwm' }] },
      },
    };
  }

  private environment({ env = [] }: ManifestContainer): Record<string, string> {
    const { node, apiService, manifests } = this.options;
    const fields: Readonly<Record<string, string>> = { 'spec.nodeName': node.name };
    const values: Record<string, string> = {
      PATH: process.env.PATH!,
      HOSTNAME: node.name,
      NODE_ENV: 'production',
      KUBERNETES_SERVICE_HOST: apiService.host,
      KUBERNETES_SERVICE_PORT: String(apiService.port),
      [ownerVariable]: node.guard.id,
    };
    for (const { name, value, valueFrom } of env) {
      const reference = valueFrom?.configMapKeyRef;
      const map = manifests.find(
        ({ kind, metadata }) => kind === 'ConfigMap' && metadata.name === reference?.name,
      );
      const found =
        value ?? fields[valueFrom?.fieldRef?.fieldPath ?? ''] ?? map?.data?.[reference?.key ?? ''];
      if (found !== undefined) values[name] = found;
      else if (reference?.optional !== true) throw new Error(`where does ${name} come from?`);
    }
    return values;
  }

  private mounts(pod: PodSpec, container: ManifestContainer): object[] {
    const mounts = (container.volumeMounts ?? []).map(({ name, mountPath, readOnly, mountPropagation }) => {
      const source = this.volume(pod, pod.volumes.find((volume) => volume.name === name)!);
      const propagation = mountPropagation === 'HostToContainer' ? 'rslave' : 'rprivate';
      const options = ['rbind', propagation, readOnly === true ? 'ro' : 'rw'];
      return { destination: mountPath, type: 'bind', source, options };
    });
    // Without an image it is this machine's program.
    if (this.options.imageRoot === undefined)
      mounts.unshift({ destination: repository, type: 'bind', source: repository, options: ['rbind', 'ro'] });
    if (pod.automountServiceAccountToken === false) return mounts;
    const account = this.folder(pod, 'account');
    const { token, ca } = this.options.serviceAccount(pod.serviceAccountName);
    for (const [file, text] of Object.entries({ token, 'ca.crt': ca, namespace: 'twill' }))
      writeFileSync(join(account, file), text);
    mounts.push({
      destination: '/var/run/secrets/kubernetes.io/serviceaccount',
      type: 'bind',
      source: account,
      options: ['rbind', 'rprivate', 'ro'],
    });
    return mounts;
  }

  private volume(pod: PodSpec, volume: Volume): string {
    if (volume.hostPath !== undefined) {
      const { path, type } = volume.hostPath;
      const source = this.hostPath(path);
      if (existsSync(source)) return source;
      if (type === 'FileOrCreate') {
        mkdirSync(join(source, '..'), { recursive: true });
        writeFileSync(source, '');
      } else mkdirSync(source, { recursive: true });
      return source;
    }
    const source = this.folder(pod, volume.name);
    const { manifests, secrets = {} } = this.options;
    const map = manifests.find(
      ({ kind, metadata }) => kind === 'ConfigMap' && metadata.name === volume.configMap?.name,
    );
    const data = map?.data ?? secrets[volume.secret?.secretName ?? ''] ?? {};
    for (const [file, text] of Object.entries(data)) writeFileSync(join(source, file), text);
    return source;
  }

  /** A folder of the pod's own. */
  private folder(pod: PodSpec, name: string): string {
    const path = join(this.options.node.dir, 'pods', pod.serviceAccountName, name);
    mkdirSync(path, { recursive: true });
    return path;
  }
}
