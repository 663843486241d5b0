import { foundNftMappings } from './nft-hostports.ts';
import type { PortMapping } from './pod.ts';
import type { FoundMapping, PluginRules } from './portmap.ts';

/** Tables of nftables in which plugins of other chains have rules for single containers, since their version 1.6. */
export const hostPortTableOfPlugins = 'cni_hostport';
const masqueradeTable = 'cni_plugins_masquerade';

/** What the bridge plugin writes for macspoofchk, since its version 1.0. */
const spoofChains = 'cni-br-iface-';

export const pluginTables: readonly { readonly family: string; readonly name: string }[] = [
  { family: 'ip', name: hostPortTableOfPlugins },
  { family: 'ip6', name: hostPortTableOfPlugins },
  { family: 'inet', name: masqueradeTable },
  { family: 'bridge', name: 'nat' },
];

/** Rules of one container in a table of nftables, with what nft must be told so that they are gone. */
export interface PluginTableRules extends PluginRules {
  readonly removal: readonly string[];
}

interface Rule {
  readonly chain: string;
  readonly body: string;
  readonly comment: string;
  readonly handle: string;
}

/** The rules with a comment. @param text as `nft --handle list table` prints it */
function rulesOf(text: string): Rule[] {
  let chain = '';
  return text.split('\n').flatMap((line) => {
    const head = /^\s*chain "?([^"\s]+)"? \{/.exec(line);
    if (head !== null) chain = head[1]!;
    const rule = /^\s*(\S.*?) comment "(.*)" # handle (\d+)$/.exec(line);
    return rule === null ? [] : [{ chain, body: rule[1]!, comment: rule[2]!, handle: rule[3]! }];
  });
}

/** NFTNL_UDATA_COMMENT_MAXLEN: the plugins cut their comments there. */
const LONGEST_COMMENT = 128;

/** Whose a rule is, by the comment that its plugin gives it; undefined for rules of others. */
function ownerOf(table: string, { comment }: Rule): Omit<PluginRules, 'name' | 'addresses'> | undefined {
  if (table === hostPortTableOfPlugins) return { network: '', containerId: comment };
  const pattern =
    table === masqueradeTable
      ? /, net: (?<network>.*), if: (?<ifname>.*), id: (?<id>.+)$/
      : /^macspoofchk-(?<id>.+)-(?<ifname>[^-]+)$/;
  const { network = '', ifname = '', id } = pattern.exec(comment)?.groups ?? {};
  if (id === undefined) return undefined;
  return { network, ifname, containerId: id, ...(comment.length >= LONGEST_COMMENT ? { isCut: true } : {}) };
}

/** The pod's address that a rule is about. */
function addressIn({ body }: Rule): string[] {
  const found =
    /\bdnat to \[?([0-9a-f.:]+?)\]?:\d+$/.exec(body) ??
    /\bdaddr ([0-9a-f.:]+) masquerade$/.exec(body) ??
    /^ip6? saddr ([0-9a-f.:]+) ip6? daddr != \S+ masquerade$/.exec(body);
  return found === null ? [] : [found[1]!];
}

/** Chains that macspoofchk has beside its rule where packets come in. */
function chainRemoval(bodies: readonly string[]): string[] {
  const chains = bodies
    .flatMap((body) => /\bjump "?([^"\s]+)"?$/.exec(body)?.[1] ?? [])
    .filter((name) => name.startsWith(spoofChains) && /^[\w.-]+$/.test(name));
  const all = [...new Set(chains.map((name) => name.replace(/-mac$/, '')))].flatMap((name) => [
    name,
    `${name}-mac`,
  ]);
  return [
    ...all.map((name) => `flush chain bridge nat ${name}`),
    ...all.map((name) => `delete chain bridge nat ${name}`),
  ];
}

/** What plugins made for single containers in a table. @param text as `nft --handle list table` prints it */
export function pluginTableRules(family: string, table: string, text: string): PluginTableRules[] {
  const own = new Map<string, { rule: Rule; owner: Omit<PluginRules, 'name' | 'addresses'> }[]>();
  for (const rule of rulesOf(text)) {
    const owner = ownerOf(table, rule);
    if (owner === undefined) continue;
    const key = JSON.stringify(owner);
    own.set(key, [...(own.get(key) ?? []), { rule, owner }]);
  }
  return [...own.values()].map((entries): PluginTableRules => {
    const rules = entries.map(({ rule }) => rule);
    const entrance = rules.filter(({ chain }) => !chain.startsWith(spoofChains));
    const { owner } = entries[0]!;
    return {
      ...owner,
      name: `${family} ${table} ${owner.containerId}`,
      addresses: [...new Set(rules.flatMap(addressIn))],
      removal: [
        ...entrance.map(({ chain, handle }) => `delete rule ${family} ${table} ${chain} handle ${handle}`),
        ...(family === 'bridge' ? chainRemoval(entrance.map(({ body }) => body)) : []),
      ],
    };
  });
}

/** The host ports that the portmap plugin leads to pods in its table, with the options that show there. */
export function foundPluginMappings(text: string): FoundMapping[] {
  const rules = rulesOf(text);
  const masquerades = rules.filter(({ body }) => body.endsWith(' masquerade'));
  return rules.flatMap((rule) =>
    foundNftMappings(rule.body).map((mapping): FoundMapping => {
      const own = masquerades.filter(({ comment }) => comment === rule.comment);
      const all = own.some(({ body }) => /saddr (0\.0\.0\.0|::)\/0 /.test(body));
      return {
        ...mapping,
        options: { ...(own.length === 0 ? { snat: false } : {}), ...(all ? { masqAll: true } : {}) },
      };
    }),
  );
}

/** What takes the rules away by which the portmap plugin leads ports, that others claim, to these addresses. */
export function portRemoval(
  family: string,
  text: string,
  claimed: readonly PortMapping[],
  addresses: ReadonlySet<string>,
): string[] {
  return rulesOf(text).flatMap((rule) => {
    const [found] = foundNftMappings(rule.body);
    const isClaimed = claimed.some(
      ({ protocol, hostPort }) => protocol === found?.protocol && hostPort === found.hostPort,
    );
    if (found === undefined || !isClaimed || !addresses.has(found.address)) return [];
    return [`delete rule ${family} ${hostPortTableOfPlugins} ${rule.chain} handle ${rule.handle}`];
  });
}
