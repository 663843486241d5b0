import { release } from 'node:os';
import { describeError, isTwillError, type TwillError } from '../model/error.ts';
import { applyNft } from './nft.ts';
import { run } from './process.ts';

/** Something that nft and the kernel must be able to do. */
export interface NftNeed {
  /** In words, behind "does not know". */
  readonly what: string;
  /** The first Linux that has it, and the module that it is in. */
  readonly linux: string;
  readonly module: string;
  /** The first nft that has it. */
  readonly nft: string;
  /** What makes it, in table {@link probeTable} of the family. @param ip `ip` or `ip6` */
  readonly lines: (ip: string) => readonly string[];
}

/** Nothing but what is tried is in it, and no packet ever meets it. */
const probeTable = 'twill-probe';

/** The oldest nft with which all of it works. */
const OLDEST_NFT = '1.0.2';
/** One that answers nothing for so long is not to be relied upon; a busy node that loads a dozen modules takes its time. */
const PROBE_MS = 30_000;
/** What nft says has its reason in the first line; those that follow show the rule. */
const LONGEST_REASON = 200;

const kinds = ['invalid', 'missing-program', 'permission', 'timeout'] as const;

/** @returns why it cannot be applied */
async function refusal(document: string): Promise<TwillError | undefined> {
  try {
    await applyNft(document, { timeoutMs: PROBE_MS });
    return undefined;
  } catch (error) {
    if (!isTwillError(error, ...kinds)) throw error;
    return error;
  }
}

/** @returns undefined for a program that does not say it: it does not run at all */
async function nftVersion(): Promise<string | undefined> {
  const { stdout } = await run('nft', ['--version'], { timeoutMs: PROBE_MS });
  return /v(\d[\w.]*)/.exec(stdout)?.[1];
}

const short = (error: TwillError): string => describeError(error).split('\n')[0]!.slice(0, LONGEST_REASON);

/** nft before 1.0 opens what it is to read once more, by a name, which nobody can do with a socket. */
const fromSocket = /Could not open file "\/dev\/stdin"/;

/** What nft hands on of the kernel, and not what it says itself of words that it does not know. */
const fromKernel = /Could not process rule: ([^\n]*)|cache initialization failed: ([^\n]*)/;

async function lackOf({ what, linux, module, nft }: NftNeed, error: TwillError): Promise<string> {
  const said = fromKernel.exec(error.message);
  if (said === null)
    return `nft ${await nftVersion()} does not know ${what}, which nft ${nft} does: install nft ${OLDEST_NFT} or later (${short(error)})`;
  const words = said[1] ?? said[2];
  return `Linux ${release()} does not know ${what} (${words}), which Linux ${linux} does with module ${module}: load that module, or update the kernel`;
}

/** That the program is not there, or does not run, or may nothing, is all there is to say. */
async function all(error: TwillError): Promise<string | undefined> {
  const remedy = `install nft ${OLDEST_NFT} or later`;
  if (error.code === 'missing-program') return `${short(error)}: ${remedy}`;
  if (error.code !== 'invalid') return short(error);
  const version = await nftVersion();
  if (version === undefined) return `nft does not run here: ${remedy} (${short(error)})`;
  return fromSocket.test(error.message)
    ? `nft ${version} takes no rules from a socket: ${remedy}`
    : undefined;
}

/**
 * What of nft or the kernel is missing for a document, each by name; nothing where it can be applied. It is: so it should
 * take away what it makes.
 * @param documents one of them is enough: the later ones are for older versions of nft
 * @param needs what is tried one by one where these are refused
 */
export async function nftLacks(
  ip: string,
  documents: readonly string[],
  needs: readonly NftNeed[],
): Promise<string[]> {
  let whole: TwillError | undefined;
  for (const document of documents) {
    const error = await refusal(document);
    if (error === undefined) return [];
    whole ??= error;
    if (error.code !== 'invalid') break;
  }
  if (whole === undefined) return [];
  const only = await all(whole);
  if (only !== undefined) return [only];
  const lacks: string[] = [];
  for (const need of needs) {
    const table = `${ip} ${probeTable}`;
    const lines = [`add table ${table}`, ...need.lines(ip), `delete table ${table}`];
    const error = await refusal(`${lines.join('\n')}\n`);
    if (error === undefined) continue;
    lacks.push((await all(error)) ?? (await lackOf(need, error)));
    // Without tables nothing else can be.
    if (need.lines(ip).length === 0) break;
  }
  return lacks.length > 0 ? lacks : [short(whole)];
}

const add = (ip: string, what: string, text: string): string => {
  const [kind, ...rest] = what.split(' ');
  return `add ${kind} ${ip} ${probeTable} ${rest.join(' ')} ${text}`;
};

const version = (ip: string): '4' | '6' => (ip === 'ip6' ? '6' : '4');

const tables: NftNeed = {
  what: 'tables of nf_tables',
  linux: '3.13',
  module: 'nf_tables',
  nft: '0.2',
  lines: () => [],
};

const filterChain = (ip: string): string => add(ip, 'chain f', '{ type filter hook input priority 0; }');
const natChain = (ip: string, hook: string): string =>
  add(ip, `chain ${hook}`, `{ type nat hook ${hook} priority 0; }`);

/** One or more rules in a chain of their own. */
function rules(hook: 'filter' | 'prerouting' | 'postrouting', ...texts: readonly string[]): NftNeed['lines'] {
  return (ip) => [
    hook === 'filter' ? filterChain(ip) : natChain(ip, hook),
    ...texts.map((text) => add(ip, `rule ${hook === 'filter' ? 'f' : hook}`, text)),
  ];
}

/** What all rules need, whatever they are for. */
export const commonNeeds: readonly NftNeed[] = [
  tables,
  {
    what: 'chains that translate addresses (type nat)',
    linux: '3.18',
    module: 'nft_chain_nat',
    nft: '0.4',
    lines: rules('prerouting'),
  },
  {
    what: 'translation of destinations (dnat to an address and a port)',
    linux: '3.18',
    module: 'nft_nat',
    nft: '0.4',
    lines: (ip) => [
      natChain(ip, 'prerouting'),
      add(ip, 'rule prerouting', `tcp dport 80 dnat to ${ip === 'ip6' ? '[fd00::1]' : '10.0.0.1'}:8080`),
    ],
  },
  {
    what: 'masquerading (masquerade fully-random)',
    linux: '3.18',
    module: 'nft_masq',
    nft: '0.6',
    lines: rules('postrouting', 'masquerade fully-random'),
  },
  {
    what: 'connection tracking (ct state, ct status)',
    linux: '3.13',
    module: 'nft_ct',
    nft: '0.2',
    lines: rules('filter', 'ct state new ct status dnat accept'),
  },
  {
    what: 'kinds of addresses (fib daddr type)',
    linux: '4.10',
    module: 'nft_fib_ipv4 or nft_fib_ipv6',
    nft: '0.7',
    lines: rules('filter', 'fib daddr type local accept'),
  },
  {
    what: 'marks of packets (meta mark set)',
    linux: '3.14',
    module: 'nf_tables',
    nft: '0.2',
    lines: rules('filter', 'meta mark set meta mark | 0x00004000'),
  },
];

/** Of what a drawn number is in its place here: see forOlderNft of the services' rules. */
const byExample = (ip: string): string =>
  add(ip, 'map e', `{ typeof meta priority . meta mark : ${ip} daddr . tcp dport; }`);
const memory = (ip: string): string =>
  add(ip, 'map m', `{ type classid . ipv${version(ip)}_addr : classid; flags dynamic,timeout; size 16; }`);

/** What rules of Services need besides: maps. */
export const mapNeeds: readonly NftNeed[] = [
  {
    what: 'refusal of connections (reject)',
    linux: '3.15',
    module: 'nft_reject_ipv4 or nft_reject_ipv6',
    nft: '0.4',
    lines: rules('filter', 'reject'),
  },
  {
    what: 'counters with a name',
    linux: '4.10',
    module: 'nft_objref',
    nft: '0.8',
    lines: (ip) => [add(ip, 'counter c', ''), filterChain(ip), add(ip, 'rule f', 'counter name "c"')],
  },
  {
    what: 'ports of whatever protocol (th dport)',
    linux: '3.13',
    module: 'nf_tables',
    nft: '0.9.2',
    lines: rules('filter', 'meta l4proto tcp th dport 80 accept'),
  },
  {
    what: 'maps of several fields',
    linux: '4.1',
    module: 'nf_tables',
    nft: '0.5',
    lines: (ip) => [
      add(ip, 'map s', `{ type ipv${version(ip)}_addr . inet_proto . inet_service : classid; }`),
    ],
  },
  {
    what: 'maps of chains (vmap)',
    linux: '3.13',
    module: 'nf_tables',
    nft: '0.2',
    lines: (ip) => [add(ip, 'map v', '{ type classid : verdict; }')],
  },
  {
    what: 'ranges in sets of several fields',
    linux: '5.6',
    module: 'nf_tables',
    nft: '0.9.4',
    lines: (ip) => [add(ip, 'set r', `{ type inet_service . ipv${version(ip)}_addr; flags interval; }`)],
  },
  {
    what: 'numbers drawn by lot (numgen random)',
    linux: '4.9',
    module: 'nft_numgen',
    nft: '0.7',
    lines: rules('filter', 'meta mark set numgen random mod 3 offset 65536'),
  },
  {
    what: 'maps whose type an example gives (typeof)',
    linux: '4.1',
    module: 'nf_tables',
    nft: '0.9.4',
    lines: (ip) => [byExample(ip)],
  },
  {
    what: 'destinations that a map gives (dnat to … map)',
    linux: '4.1',
    module: 'nft_nat',
    nft: OLDEST_NFT,
    lines: (ip) => [
      byExample(ip),
      natChain(ip, 'prerouting'),
      add(
        ip,
        'rule prerouting',
        `meta l4proto tcp dnat ${ip} to meta priority & 0xfffff000 . meta mark map @e`,
      ),
    ],
  },
  {
    what: 'maps that rules write to (update and delete, for session affinity)',
    linux: '5.4',
    module: 'nf_tables',
    nft: OLDEST_NFT,
    lines: (ip) => {
      const client = `meta priority & 0xfffff000 . ${ip} saddr`;
      return [
        memory(ip),
        filterChain(ip),
        add(ip, 'rule f', `update @m { ${client} timeout 10s : meta priority }`),
        add(ip, 'rule f', `delete @m { ${client} : meta priority }`),
      ];
    },
  },
];
