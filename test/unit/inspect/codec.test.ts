import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decodeState, encodeState, encodeStatePieces } from '../../../src/inspect/plan/codec.ts';
import { ipv4, ipv6, parseAddress, parsePrefix } from '../../../src/model/address.ts';

const lease = (index: number): object => ({
  key: `10.244.${index}.0-24`,
  subnet: parsePrefix(`10.244.${index % 256}.0/24`),
  publicIp: parseAddress('2001:db8::7'),
});

const states: Readonly<Record<string, object>> = {
  nothing: {},
  'no list': { version: 1, text: '@at', family: ipv6, absent: undefined },
  'an empty list': { leases: [], after: 1 },
  'a short list': { leases: [lease(1), lease(2)], after: new Set(['a']) },
  'a list of one piece and one more': {
    before: 1,
    leases: Array.from({ length: 201 }, (_, at) => lease(at)),
  },
  'long lists in a row': {
    first: Array.from({ length: 1000 }, (_, at) => at),
    second: Array.from({ length: 400 }, (_, at) => lease(at)),
    map: new Map([[ipv4.name, { places: [parseAddress('192.0.2.1')] }]]),
  },
};

for (const [name, state] of Object.entries(states))
  test(`a state comes back from text and from its pieces: ${name}`, () => {
    const whole = encodeState(state);
    const pieces = Buffer.concat([...encodeStatePieces(state)]).toString();
    assert.equal(pieces, whole);
    if (!('absent' in state)) assert.deepEqual(decodeState(whole), state);
  });
