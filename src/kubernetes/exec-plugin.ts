import { readFileSync } from 'node:fs';
import type { RequestOptions } from 'node:https';
import { isatty } from 'node:tty';
import type { Cluster, User } from '@kubernetes/client-node/dist/config_types.js';
import { run } from '../kernel/process.ts';
import { describeError, isTwillError, TwillError } from '../model/error.ts';
import { parseTime, wallClockMs } from '../process/clock.ts';

/** `exec` of a kubeconfig's user. https://kubernetes.io/docs/reference/access-authn-authz/authentication/#configuration */
export interface ExecPlugin {
  readonly apiVersion?: string;
  readonly command?: string;
  readonly args?: readonly string[] | null;
  readonly env?: readonly { readonly name?: string; readonly value?: string }[] | null;
  readonly installHint?: string;
  readonly interactiveMode?: string;
  readonly provideClusterInfo?: boolean;
}

/** What the plugin gave us. */
interface Credential {
  readonly token: string | undefined;
  readonly certificate: { readonly cert: string; readonly key: string } | undefined;
  /** Milliseconds since the epoch; infinite when the plugin names no end. */
  readonly expires: number;
}

const group = 'client.authentication.k8s.io';
const versions = [`${group}/v1`, `${group}/v1beta1`];
const modes = ['Never', 'IfAvailable', 'Always'];
/** The kubeconfig's name for it; the only extension of a cluster that a plugin is told. */
export const execExtension = `${group}/exec`;

/** A plugin that waits for something that will not come must not hold up everything. */
const TIMEOUT_MS = 60_000;

function bad(user: string, problem: string): TwillError {
  return new TwillError('invalid', `user '${user}': exec: ${problem}`);
}

/** As client-go checks it (tools/clientcmd/validation.go). @throws TwillError `invalid` naming the user and the field */
export function checkExecPlugin(user: string, plugin: ExecPlugin): void {
  const { apiVersion, command, interactiveMode } = plugin;
  if (!command) throw bad(user, 'command is missing');
  if (!apiVersion) throw bad(user, 'apiVersion is missing');
  if (!versions.includes(apiVersion)) {
    throw bad(user, `apiVersion '${apiVersion}' is not one of ${versions.join(', ')}`);
  }
  if (plugin.env?.some(({ name }) => !name)) throw bad(user, 'env has an entry without a name');
  if (interactiveMode === undefined && apiVersion === versions[0])
    throw bad(user, 'interactiveMode is missing');
  if (interactiveMode !== undefined && !modes.includes(interactiveMode)) {
    throw bad(user, `interactiveMode '${interactiveMode}' is not one of ${modes.join(', ')}`);
  }
}

/** The cluster as a plugin is told it: client-go's rest.ConfigToExecCluster. */
function clusterInfo(cluster: Cluster, config: unknown): Record<string, unknown> {
  const { caFile, caData } = cluster;
  const authority = caFile ? readFileSync(caFile) : caData ? Buffer.from(caData, 'base64') : undefined;
  return {
    server: cluster.server,
    'tls-server-name': cluster.tlsServerName,
    'insecure-skip-tls-verify': cluster.skipTLSVerify || undefined,
    'certificate-authority-data': authority?.toString('base64'),
    'proxy-url': cluster.proxyUrl,
    config,
  };
}

/**
 * Credentials of a kubeconfig's exec plugin, as client-go gets them (plugin/pkg/client/auth/exec): the plugin is told in
 * KUBERNETES_EXEC_INFO what it is asked for, and not run again before what it gave has expired. The library's own way
 * tells it nothing, and runs it for every request unless it names an end.
 */
export class ExecCredentials {
  private readonly plugin: ExecPlugin;
  private readonly cluster: () => Cluster;
  private readonly clusterConfig: unknown;
  private asked: Promise<Credential> | undefined;

  /** @param clusterConfig the cluster's extension {@link execExtension} */
  constructor(plugin: ExecPlugin, cluster: () => Cluster, clusterConfig: unknown) {
    this.plugin = plugin;
    this.cluster = cluster;
    this.clusterConfig = clusterConfig;
  }

  isAuthProvider(user: User): boolean {
    return user.authProvider?.name === execExtension;
  }

  async applyAuthentication(_user: User, options: RequestOptions): Promise<void> {
    const { token, certificate } = await this.credential();
    if (token !== undefined) options.headers = { ...options.headers, Authorization: `Bearer ${token}` };
    Object.assign(options, certificate);
  }

  private async credential(): Promise<Credential> {
    const known = this.asked;
    if (known !== undefined && (await known).expires > wallClockMs()) return known;
    // Requests that come at once share one run.
    if (this.asked === known) {
      const asked = this.run();
      this.asked = asked;
      asked.catch(() => {
        if (this.asked === asked) this.asked = undefined;
      });
    }
    return this.asked!;
  }

  private get interactive(): boolean {
    const mode = this.plugin.interactiveMode ?? 'IfAvailable';
    const terminal = mode !== 'Never' && isatty(0);
    if (mode === 'Always' && !terminal) {
      const problem = "interactiveMode is 'Always', and standard input is not a terminal";
      throw new TwillError('permission', `cannot run ${this.plugin.command}: ${problem}`);
    }
    return terminal;
  }

  private environment(interactive: boolean): NodeJS.ProcessEnv {
    const { apiVersion, env, provideClusterInfo } = this.plugin;
    const cluster = provideClusterInfo ? clusterInfo(this.cluster(), this.clusterConfig) : undefined;
    const given = Object.fromEntries((env ?? []).map(({ name, value }) => [name!, String(value ?? '')]));
    const info = { kind: 'ExecCredential', apiVersion, spec: { cluster, interactive } };
    return { ...process.env, ...given, KUBERNETES_EXEC_INFO: JSON.stringify(info) };
  }

  private async run(): Promise<Credential> {
    const { interactive } = this;
    const { args, installHint } = this.plugin;
    const command = this.plugin.command!;
    const settings = { env: this.environment(interactive), timeoutMs: TIMEOUT_MS };
    const { status, stdout, stderr } = await run(
      command,
      args ?? [],
      interactive ? { ...settings, input: 'inherit' } : settings,
    ).catch((cause: unknown) => {
      const hint = isTwillError(cause, 'missing-program') && installHint ? `: ${installHint.trim()}` : '';
      throw new TwillError('permission', `cannot run ${command} (${describeError(cause)})${hint}`, cause);
    });
    const said = stderr.trim().slice(-200);
    if (status !== 0) throw new TwillError('permission', `${command} ended with ${status}: ${said}`);
    return this.read(stdout);
  }

  private read(text: string): Credential {
    const wrong = (problem: string): TwillError =>
      new TwillError('permission', `${this.plugin.command} ${problem}`);
    let answer: {
      readonly apiVersion?: string;
      readonly status?: Readonly<Record<string, string | undefined>>;
    } | null;
    try {
      answer = JSON.parse(text);
    } catch {
      throw wrong('printed something that is not JSON');
    }
    const { apiVersion, status } = answer ?? {};
    if (apiVersion !== this.plugin.apiVersion) {
      throw wrong(`answered in version ${apiVersion}, configured is ${this.plugin.apiVersion}`);
    }
    const { token, clientCertificateData: cert, clientKeyData: key, expirationTimestamp } = status ?? {};
    if (!token && !cert && !key) throw wrong('gave neither a token nor a certificate');
    if (!cert !== !key) throw wrong('gave a certificate or a key, not both');
    const end = expirationTimestamp ? parseTime(expirationTimestamp) : Number.POSITIVE_INFINITY;
    if (Number.isNaN(end)) throw wrong('gave an expirationTimestamp that is no time');
    return { token: token || undefined, certificate: cert && key ? { cert, key } : undefined, expires: end };
  }
}
