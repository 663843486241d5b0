import { type Chain, pickChain, shapeChain, sharedChains } from './chains.ts';
import { chainDocument, declarations, forOlderNft, shapesDocument } from './document.ts';
import { localIndex, tableName } from './names.ts';
import type { RenderOptions } from './options.ts';
import { type Pick, pickName, picksOf, type Shape, shapeName } from './shapes.ts';

const protocols: readonly Pick['protocol'][] = ['tcp', 'udp', 'sctp'];

function examples(protocol: Pick['protocol']): Shape[] {
  const pick = (region: Pick['region'], sticky: number): Pick => ({ protocol, region, count: 2, sticky });
  return [0, 10_800].flatMap((sticky): Shape[] => [
    { kind: 'cluster', pick: pick('cluster', sticky) },
    { kind: 'external', pick: pick('cluster', sticky) },
    { kind: 'local', here: pick('local', sticky), anywhere: pick('cluster', sticky) },
  ]);
}

/**
 * Makes every kind of rule that Services may ask for in a table of another name, and takes it away, in one transaction:
 * what nft and the kernel must be able to do. No packet ever meets it, and nothing stays, whenever it ends.
 */
export function probeDocuments(ip: string, options: RenderOptions): readonly string[] {
  const shapes = protocols.flatMap(examples);
  const picks = new Map(shapes.flatMap(picksOf).map((pick) => [pickName(pick), pick]));
  const chains = [
    ...[...picks].map(([name, pick]) => pickChain(name, pick, options)),
    ...shapes.map((shape) => shapeChain(shape, pickName, options)),
    ...sharedChains(options),
  ];
  return elsewhere(ip, {
    chains,
    shapes: new Map(shapes.map((shape, index) => [index + 1, shapeName(shape)])),
  });
}

/** Makes sets, chains and what leads to them in a table of another name, and takes it away: as any, and as an older nft takes it. */
export function elsewhere(
  ip: string,
  wanted: { readonly chains: readonly Chain[]; readonly shapes: ReadonlyMap<number, string> },
): readonly [document: string, older: string] {
  const rules = [
    ...declarations(ip),
    ...wanted.chains.flatMap((chain) => chainDocument(ip, chain, false)),
    ...shapesDocument(ip, wanted.shapes),
  ].join('\n');
  // Any nft takes a drawn number that is no part of a key, and the kernel may have none: so it is in the older document, too.
  const end = [
    `add rule ${ip} ${tableName} services meta mark set numgen random mod 2 offset ${localIndex}`,
    `delete table ${ip} ${tableName}`,
  ].join('\n');
  const ofOtherName = (text: string): string =>
    `${text}\n${end}\n`.replace(new RegExp(` ${tableName}(?=[ \n])`, 'g'), ` ${tableName}-probe`);
  return [ofOtherName(rules), ofOtherName(forOlderNft(rules))];
}
