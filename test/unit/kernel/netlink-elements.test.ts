import assert from 'node:assert/strict';
import { it } from 'node:test';
import { MessageWriter, parseMessages } from '../../../src/kernel/netlink/codec.ts';
import { batchOf, parseElements } from '../../../src/kernel/netlink/nftables.ts';
import type { SetElement } from '../../../src/model/set-element.ts';

/** A message with these elements; the kernel lists them in the same words. */
function message(elements: readonly SetElement[]): Buffer {
  const { write } = batchOf({ af: 2, name: 'x' }, [{ set: 's', deletes: false, elements }]);
  const writer = new MessageWriter().reset(1);
  write(writer);
  const [, payload] = [...parseMessages(writer.finish())].map((one) => one.payload);
  return Buffer.from(payload!);
}

const nothing = { end: undefined, data: undefined, chain: undefined, comment: undefined };

it('elements are read as they were written: values, ranges, ways to a chain, comments, what others have no key for', () => {
  const elements: SetElement[] = [
    { key: '\x0a\0\0\x01\0\x50' },
    { key: '\x0a\0\0\0', end: '\x0a\0\0\xff' },
    { key: '\0\x50', data: '\xff\xfe\x80\0', comment: 'default/web:http' },
    { key: '\0\0\0\x01', goto: 'cluster-tcp-2' },
    { key: '', data: '\x01' },
    { key: '\x01', comment: 'größer' },
    { key: '\x02', comment: '' },
    { key: '\x03', comment: 'c'.repeat(200) },
  ];
  assert.deepEqual(
    [...parseElements(message(elements))],
    [
      { ...nothing, key: '\x0a\0\0\x01\0\x50' },
      { ...nothing, key: '\x0a\0\0\0', end: '\x0a\0\0\xff' },
      { ...nothing, key: '\0\x50', data: '\xff\xfe\x80\0', comment: 'default/web:http' },
      { ...nothing, key: '\0\0\0\x01', chain: 'cluster-tcp-2' },
      { ...nothing, key: '', data: '\x01' },
      { ...nothing, key: '\x01', comment: 'größer' },
      { ...nothing, key: '\x02', comment: '' },
      { ...nothing, key: '\x03', comment: 'c'.repeat(127) },
    ],
  );
});

it('an element that claims more than is there ends the list', () => {
  const payload = message([{ key: '\x01\x02\x03\x04' }, { key: '\x05\x06\x07\x08' }]);
  const second = payload.indexOf('\x05\x06\x07\x08') - 12;
  payload.writeUInt16LE(4000, second);
  assert.deepEqual(
    [...parseElements(payload)].map(({ key }) => key),
    ['\x01\x02\x03\x04'],
  );
});
