import { join } from 'node:path';
import { readSysctl, writeSysctl } from '../../kernel/sysctl.ts';
import { isTwillError } from '../../model/error.ts';
import { readFileIfPresent, writeFileAtomically } from '../../process/files.ts';

const setting = (bridge: string): string => `net/ipv4/conf/${bridge}/route_localnet`;

/** How kernel parameters are read and written: {@link readSysctl} and {@link writeSysctl}, or a test's own. */
interface Sysctls {
  readonly read: (name: string) => string | undefined;
  readonly write: (name: string, value: string) => boolean;
}

/** Resolves when rules keep pods from the node's loopback services; rejects when they do not stand yet. */
export type LoopbackGuard = () => Promise<void>;

/**
 * The bridges on which the kernel routes to 127.0.0.0/8: host ports on 127.0.0.1 need it for the pods' answers. It is
 * opened behind the guard only, and set back where it was opened here, also by an earlier run.
 */
export class Localnet {
  private readonly path: string;
  private readonly guard: LoopbackGuard;
  private readonly opened: Set<string>;
  private readonly sysctls: Sysctls;

  constructor(
    stateDir: string,
    guard: LoopbackGuard,
    sysctls: Sysctls = { read: readSysctl, write: writeSysctl },
  ) {
    this.sysctls = sysctls;
    this.path = join(stateDir, 'route-localnet');
    this.guard = guard;
    this.opened = new Set((readFileIfPresent(this.path) ?? '').split('\n').filter((name) => name !== ''));
  }

  /**
   * Makes it open on just these bridges, as far as it is ours to close.
   * @throws TwillError `unavailable` while the guard does not stand, `permission`
   */
  async ensure(bridges: ReadonlySet<string>): Promise<void> {
    for (const bridge of this.opened) if (!bridges.has(bridge)) this.close(bridge);
    for (const bridge of bridges) {
      if (this.sysctls.read(setting(bridge)) === '1') continue;
      await this.guard();
      this.remember(() => this.opened.add(bridge));
      this.sysctls.write(setting(bridge), '1');
    }
  }

  private close(bridge: string): void {
    try {
      this.sysctls.write(setting(bridge), '0');
    } catch (error) {
      if (!isTwillError(error, 'not-found')) throw error; // the bridge is gone, and the setting with it
    }
    this.remember(() => this.opened.delete(bridge));
  }

  private remember(change: () => void): void {
    change();
    writeFileAtomically(this.path, [...this.opened].map((name) => `${name}\n`).join(''));
  }
}
