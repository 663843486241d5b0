// The programs under measurement: `twill proxy` and, where its path is given, kube-proxy in iptables mode.
import { type ChildProcess, spawn } from 'node:child_process';
import { accessSync, constants, mkdtempSync, readFileSync, realpathSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { twillProgram } from '../lab/files.ts';
import { modeFlags, type RulesKind } from '../lab/service-lab.ts';

/** `twill`, or the path of a kube-proxy. */
export type SubjectName = string;

/** Where both serve `/metrics` by default. */
const METRICS = 'http://127.0.0.1:10249/metrics';

const common = ['--cluster-cidr=10.128.0.0/10', '--hostname-override=node-0'];

/** Settings that would change the machine it runs on are left as they are. */
const kubeProxyFlags = [
  '--iptables-min-sync-period=50ms',
  '--conntrack-max-per-core=0',
  '--conntrack-tcp-timeout-established=0',
  '--conntrack-tcp-timeout-close-wait=0',
];

const makeFolder = (): string => mkdtempSync(join(tmpdir(), 'twill-bench-'));

/** A folder in which `iptables` and its kin mean one variant: kube-proxy has no other way to be told. */
function programsOf(variant: RulesKind): string {
  const folder = makeFolder();
  for (const family of ['iptables', 'ip6tables']) {
    for (const suffix of ['', '-save', '-restore']) {
      const program = realpathSync(`/usr/sbin/${family}-${variant === 'legacy' ? 'legacy' : 'nft'}${suffix}`);
      symlinkSync(program, join(folder, family + suffix));
    }
  }
  return folder;
}

/** @throws Error saying what is wrong with the path of a peer */
export function checkPeer(path: string): void {
  try {
    accessSync(path, constants.X_OK);
  } catch {
    throw new Error(`--peer-kube-proxy: '${path}' is not an executable file`);
  }
}

export class Subject {
  private readonly child: ChildProcess;
  private readonly folder: string;
  private readonly exited: Promise<void>;
  private output = '';
  private ended = false;

  constructor(name: SubjectName, master: string, variant: RulesKind) {
    const twill = name === 'twill';
    // What Twill says of itself belongs to the benchmark, too, and not into the machine's /run.
    this.folder = twill ? makeFolder() : programsOf(variant);
    const socket = `--inspect-socket=${join(this.folder, 'proxy.sock')}`;
    const [program, args] = twill
      ? [process.execPath, [twillProgram, 'proxy', ...modeFlags(variant), socket]]
      : [name, [...kubeProxyFlags, `--proxy-mode=${variant === 'nftables' ? variant : 'iptables'}`]];
    const path = twill ? process.env.PATH : `${this.folder}:${process.env.PATH}`;
    this.child = spawn(program, [...args, ...common, `--master=${master}`], {
      stdio: ['ignore', 'inherit', 'pipe'],
      env: { ...process.env, PATH: path },
    });
    this.child.stderr!.on('data', (data: Buffer) => {
      this.output = (this.output + data.toString()).slice(-4000);
    });
    this.exited = new Promise((resolve) => {
      const end = (): void => {
        this.ended = true;
        resolve();
      };
      this.child.once('exit', end);
      this.child.once('error', (error) => {
        this.output += error.message;
        end();
      });
    });
  }

  /** @throws Error with the last of its log once it has ended */
  check(): void {
    if (this.ended) throw new Error(`${this.child.spawnfile} ended:\n${this.output}`);
  }

  /** Mean duration of its full syncs in milliseconds, as its metrics say; undefined where they say nothing. */
  async fullSyncMs(): Promise<number | undefined> {
    const text = await (await fetch(METRICS)).text();
    const value = (what: string): number =>
      text
        .split('\n')
        .filter((line) => line.startsWith(`kubeproxy_sync_full_proxy_rules_duration_seconds_${what}`))
        .filter((line) => !line.includes('IPv6'))
        .reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
    return value('count') === 0 ? undefined : (value('sum') / value('count')) * 1000;
  }

  /** Answers of `/readyz`: that of kube-proxy does not exist. */
  async ready(): Promise<boolean> {
    this.check();
    return (await fetch('http://127.0.0.1:10256/readyz').catch(() => undefined))?.status === 200;
  }

  peakMemoryMiB(): number {
    const status = readFileSync(`/proc/${this.child.pid}/status`, 'utf8');
    return Number(/VmHWM:\s+(\d+)/.exec(status)![1]) / 1024;
  }

  async end(): Promise<void> {
    this.child.kill('SIGTERM');
    await this.exited;
    rmSync(this.folder, { recursive: true });
  }
}
