import { readFileSync } from 'node:fs';

/** The profile that Debian's container tools have as their default, which containerd's and Docker's are alike. */
const profileFile = '/usr/share/containers/seccomp.json';

interface Entry {
  readonly names: readonly string[];
  readonly action: string;
  readonly args?: readonly object[] | null;
  readonly errnoRet?: number;
  readonly includes?: { readonly caps?: readonly string[]; readonly arches?: readonly string[] };
  readonly excludes?: { readonly caps?: readonly string[]; readonly arches?: readonly string[] };
}

interface Profile {
  readonly defaultAction: string;
  readonly defaultErrnoRet?: number;
  readonly archMap: readonly {
    readonly architecture: string;
    readonly subArchitectures?: readonly string[];
  }[];
  readonly syscalls: readonly Entry[];
}

const arch = process.arch === 'x64' ? 'amd64' : process.arch;
const architecture = process.arch === 'x64' ? 'SCMP_ARCH_X86_64' : 'SCMP_ARCH_AARCH64';

/** What `RuntimeDefault` is for a container with these capabilities, in the form of the OCI runtime specification. */
export function runtimeDefaultSeccomp(capabilities: readonly string[]): object {
  const { defaultAction, defaultErrnoRet, archMap, syscalls } = JSON.parse(
    readFileSync(profileFile, 'utf8'),
  ) as Profile;
  const applies = ({ includes, excludes }: Entry): boolean =>
    (includes?.caps ?? []).every((name) => capabilities.includes(name)) &&
    (includes?.arches === undefined || includes.arches.includes(arch)) &&
    !(excludes?.caps ?? []).some((name) => capabilities.includes(name)) &&
    !(excludes?.arches ?? []).includes(arch);
  const own = archMap.find((one) => one.architecture === architecture);
  return {
    defaultAction,
    ...(defaultErrnoRet === undefined ? {} : { defaultErrnoRet }),
    architectures: [architecture, ...(own?.subArchitectures ?? [])],
    syscalls: syscalls.filter(applies).map(({ names, action, args, errnoRet }) => ({
      names,
      action,
      ...(args ? { args } : {}),
      ...(errnoRet === undefined || errnoRet === 0 ? {} : { errnoRet }),
    })),
  };
}
