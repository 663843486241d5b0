import { release } from 'node:os';
import { run } from '../kernel/process.ts';
import { version } from '../process/version.ts';
import type { Versions } from './plan/status.ts';

async function versionOf(program: string): Promise<string | undefined> {
  try {
    const { stdout } = await run(program, ['--version'], { timeoutMs: 2000 });
    return /\d+(\.\d+)+/.exec(stdout)?.[0];
  } catch {
    return undefined;
  }
}

export async function readVersions(agent: string | undefined, proxy: string | undefined): Promise<Versions> {
  const [iptables, nft] = await Promise.all([versionOf('iptables'), versionOf('nft')]);
  return { twill: version, agent, proxy, kernel: release(), node: process.versions.node, iptables, nft };
}
