import { type Family, ipv6 } from '../../src/model/address.ts';
import { chainDocument, declarations, shapesDocument } from '../../src/services/nftables/plan/document.ts';
import {
  type Layout,
  layouts,
  type SetName,
  setNames,
  tableName,
} from '../../src/services/nftables/plan/names.ts';
import type { RenderOptions } from '../../src/services/nftables/plan/options.ts';
import { packedText } from '../../src/services/nftables/plan/pack.ts';
import { Ruleset } from '../../src/services/nftables/plan/ruleset.ts';
import { renderServicePort } from '../../src/services/nftables/plan/service-rules.ts';
import { type NodeView, serviceEntries } from '../../src/services/plan/table.ts';
import type { ServiceState } from '../../src/services/plan/tracker.ts';

/** One element as nft writes it. */
function elementText(
  name: SetName,
  key: string,
  {
    data,
    comment,
    v6,
  }: { readonly data: string; readonly comment: string | undefined; readonly v6: boolean },
): string {
  const layout: Layout = layouts[name];
  if (layout.interval === true) {
    const bytes = v6 ? 16 : 4;
    const first = packedText(layout.key, key.slice(0, -bytes), v6);
    return `${first}-${packedText(['address'], key.slice(-bytes), v6)}`;
  }
  const words = comment === undefined ? '' : ` comment "${comment}"`;
  const text = packedText(layout.key, key, v6) + words;
  return layout.data === undefined ? text : `${text} : ${packedText(layout.data, data, v6)}`;
}

/** All that should stand, as one document. */
function rulesetDocument(ruleset: Ruleset, v6: boolean): string {
  const ip = v6 ? 'ip6' : 'ip';
  const elements = setNames.flatMap((set) =>
    [...ruleset.elements[set]]
      .map(([key, data]) => elementText(set, key, { data, comment: ruleset.holder(set, key), v6 }))
      .sort()
      .map((text) => `add element ${ip} ${tableName} ${set} { ${text} }`),
  );
  const chains = ruleset.chains().map((chain) => ({ chain, text: chainDocument(ip, chain, false) }));
  const of = (hooked: boolean): string[] =>
    chains.filter(({ chain }) => (chain.hook !== undefined) === hooked).flatMap(({ text }) => text);
  const shapes = shapesDocument(ip, ruleset.shapeChains());
  return `${[...declarations(ip), ...of(false), ...shapes, ...elements, ...of(true)].join('\n')}\n`;
}

/** What stands for the Services, as one document that `nft -f` takes; the proxy gives elements to the kernel directly. */
export function nftDocument(
  states: Iterable<readonly [key: string, state: ServiceState]>,
  family: Family,
  node: NodeView,
  options: RenderOptions,
): string {
  const ruleset = new Ruleset(options);
  for (const [key, state] of states) {
    const entries = serviceEntries(state, family, node);
    ruleset.setService(
      key,
      entries.map((entry) => renderServicePort(entry, options)),
    );
  }
  return rulesetDocument(ruleset, family === ipv6);
}
