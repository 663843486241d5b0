import type { Protocol } from '../../../model/flow.ts';
import { addressKey, portKey } from '../../plan/stale-flows.ts';
import { layouts } from './names.ts';
import { packedText } from './pack.ts';
import type { Elements } from './ruleset.ts';

/** The UDP and SCTP destinations that elements lead on from, for {@link FlowTable.recall}. */
export function standingDestinations(elements: Elements, v6: boolean): string[] {
  const found: string[] = [];
  const parts = (set: 'services' | 'node-ports', key: string): string[] =>
    packedText(layouts[set].key, key, v6).split(' . ');
  for (const key of elements.services.keys()) {
    const [address, protocol, port] = parts('services', key);
    if (protocol !== 'tcp')
      found.push(addressKey(protocol!.toUpperCase() as Protocol, address!, Number(port)));
  }
  for (const key of elements['node-ports'].keys()) {
    const [protocol, port] = parts('node-ports', key);
    if (protocol !== 'tcp') found.push(portKey(protocol!.toUpperCase() as Protocol, Number(port)));
  }
  return found;
}
