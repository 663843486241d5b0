import type { Protocol } from '../../../model/flow.ts';
import { addressKey, portKey } from '../../plan/stale-flows.ts';
import type { Elements } from './elements.ts';
import { layouts } from './names.ts';
import { fieldBytes, packedText, packProtocol } from './pack.ts';

const tcp = packProtocol('TCP');
const isTcp = (key: string, at: number): boolean => key.startsWith(tcp, at);

/** The UDP and SCTP destinations that elements lead on from, for {@link FlowTable.recall}. */
export function standingDestinations(elements: Elements, v6: boolean): string[] {
  const found: string[] = [];
  const parts = (set: 'services' | 'node-ports', key: string): string[] =>
    packedText(layouts[set].key, key, v6).split(' . ');
  const protocolOf = (text: string): Protocol => text.toUpperCase() as Protocol;
  // Words are made of few: nearly all are TCP's.
  for (const key of elements.services.keys()) {
    if (isTcp(key, fieldBytes('address', v6))) continue;
    const [address, protocol, port] = parts('services', key);
    found.push(addressKey(protocolOf(protocol!), address!, Number(port)));
  }
  for (const key of elements['node-ports'].keys()) {
    if (isTcp(key, 0)) continue;
    const [protocol, port] = parts('node-ports', key);
    found.push(portKey(protocolOf(protocol!), Number(port)));
  }
  return found;
}
