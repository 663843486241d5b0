import { UnixDatagram } from '../kernel/unix-datagram.ts';
import { describeError } from '../model/error.ts';
import { monotonicMs } from './clock.ts';
import type { Closer } from './ending.ts';
import { guarded } from './guarded.ts';
import { type Log, LogLimiter } from './log.ts';

/** Milliseconds between looks at how the process does. */
const LOOK_MS = 100;

export interface ServiceState {
  /** Others may rely on it from now on. */
  readonly ready: boolean;
  /** One line about what it does or waits for. */
  readonly status: string;
  /** Nothing hangs that a restart would help. */
  readonly alive: boolean;
}

export interface SystemdOptions {
  /** `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` are taken out of it: programs that are run are not the service. */
  readonly env: Record<string, string | undefined>;
  readonly log: Log;
  /** Aborted when the process is to end. */
  readonly signal: AbortSignal;
  readonly state: () => ServiceState;
}

/** How often a sign of life has to come at the latest, milliseconds; undefined for never (sd_watchdog_enabled(3)). */
export function watchdogMs(env: SystemdOptions['env'], pid: number): number | undefined {
  const { WATCHDOG_USEC: usec = '', WATCHDOG_PID: watched } = env;
  if (!/^[1-9]\d*$/.test(usec) || (watched !== undefined && watched !== String(pid))) return undefined;
  return Number(usec) / 1000;
}

/** One of systemd's services says how it does, in the words of sd_notify(3). */
class SystemdService {
  private readonly options: SystemdOptions;
  private readonly socket: UnixDatagram;
  private readonly watchdog: number | undefined;
  private readonly limiter = new LogLimiter();
  private readonly timer: NodeJS.Timeout;
  private ready = false;
  private status = '';
  private stopping = false;
  private signOfLife = Number.NEGATIVE_INFINITY;

  constructor(name: string, watchdog: number | undefined, options: SystemdOptions) {
    this.options = options;
    this.socket = new UnixDatagram(name);
    this.watchdog = watchdog;
    const look = guarded(options.log, 'telling systemd how the service does', () => this.look());
    this.timer = setInterval(look, LOOK_MS);
    this.timer.unref();
    options.signal.addEventListener('abort', look, { once: true });
    look();
  }

  /** Says what has changed; what nobody took is said again. */
  private look(): void {
    const { ready, status, alive } = this.options.state();
    const stopping = this.options.signal.aborted;
    const now = monotonicMs();
    const words: string[] = [];
    if (ready && !this.ready) words.push('READY=1');
    if (stopping && !this.stopping) words.push('STOPPING=1');
    const line = stopping ? 'stopping; the data plane stays' : status.replaceAll(/\s+/g, ' ');
    if (line !== this.status) words.push(`STATUS=${line}`);
    // Half of the time is what sd_watchdog_enabled(3) recommends; a look may come late, so somewhat less.
    const due = this.watchdog !== undefined && alive && now - this.signOfLife >= this.watchdog / 3;
    if (due) words.push('WATCHDOG=1');
    if (words.length === 0 || !this.send(words.join('\n'))) return;
    this.ready ||= ready;
    this.stopping = stopping;
    this.status = line;
    if (due) this.signOfLife = now;
  }

  private send(text: string): boolean {
    try {
      this.socket.send(text);
      return true;
    } catch (error) {
      const reason = describeError(error);
      if (this.limiter.allow(reason) !== undefined)
        this.options.log.warn({ error: reason }, 'systemd cannot be told how the service does');
      return false;
    }
  }

  close(): void {
    clearInterval(this.timer);
    this.socket.close();
  }
}

/**
 * Tells systemd, where it asks for it (`Type=notify`), when the process is ready, what it does, that it is alive and that it
 * stops. Does nothing without `NOTIFY_SOCKET`.
 */
export function informSystemd(options: SystemdOptions): Closer {
  const { env, log } = options;
  const { NOTIFY_SOCKET: name } = env;
  const watchdog = watchdogMs(env, process.pid);
  for (const variable of ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID']) delete env[variable];
  if (name === undefined || name === '') return () => {};
  try {
    const service = new SystemdService(name, watchdog, options);
    return () => service.close();
  } catch (error) {
    log.warn({ error: describeError(error) }, 'NOTIFY_SOCKET is not used');
    return () => {};
  }
}
