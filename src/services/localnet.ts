import type { Iptables } from '../kernel/iptables.ts';
import { canWriteSysctl, readSysctl, writeSysctl } from '../kernel/sysctl.ts';
import { describeError } from '../model/error.ts';
import type { Log } from '../process/log.ts';
import { localnetChain } from './iptables/plan/names.ts';
import { localnetMark } from './iptables/plan/ruleset.ts';

const setting = 'net/ipv4/conf/all/route_localnet';

/** True when an earlier run opened it, and nobody has set it back. */
export async function localnetIsOurs(iptables: Iptables): Promise<boolean> {
  const lines = (await iptables.list('filter', localnetChain)) ?? [];
  return lines.some((line) => line.includes(localnetMark)) && readSysctl(setting) === '1';
}

/** Sets route_localnet back where a run of the proxy opened it. @returns true when it did */
export async function closeLocalnet(iptables: Iptables): Promise<boolean> {
  return (await localnetIsOurs(iptables)) && writeSysctl(setting, '0');
}

/**
 * Whether the kernel routes packets to 127.0.0.0/8 that come from elsewhere: node ports on 127.0.0.1 need it for the
 * answers. Open only while there are such ports, and only behind the rules that keep everything else out; where it was
 * closed before, it is set back. A chain of ours remembers that (see {@link localnetMark}).
 */
export class ProxyLocalnet {
  /** Node ports answer on 127.0.0.1. */
  readonly wanted: boolean;
  /** It is ours to set back. */
  readonly opens: boolean;
  private readonly log: Log;

  private constructor(wanted: boolean, opens: boolean, log: Log) {
    this.wanted = wanted;
    this.opens = opens;
    this.log = log;
  }

  /** @param configured whether node ports are to answer on 127.0.0.1; closed at once where not */
  static async open(iptables: Iptables, configured: boolean, log: Log): Promise<ProxyLocalnet> {
    if (!configured) {
      if (await closeLocalnet(iptables)) log.info({ sysctl: setting }, 'set back: not needed any more');
      return new ProxyLocalnet(false, false, log);
    }
    const isOpen = readSysctl(setting) === '1';
    if (!isOpen && !canWriteSysctl(setting)) {
      log.warn({ sysctl: setting }, 'node ports will not answer on 127.0.0.1: /proc/sys is not writable');
      return new ProxyLocalnet(false, false, log);
    }
    return new ProxyLocalnet(true, !isOpen || (await localnetIsOurs(iptables)), log);
  }

  /** To be called when the rules stand. @param needed there are node ports */
  follow(needed: boolean): void {
    if (!this.wanted) return;
    try {
      if (needed ? writeSysctl(setting, '1') : this.opens && writeSysctl(setting, '0'))
        this.log.info({ sysctl: setting, value: needed ? 1 : 0 }, 'follows the node ports');
    } catch (error) {
      this.log.warn({ error: describeError(error) }, 'node ports may not answer on 127.0.0.1');
    }
  }
}
