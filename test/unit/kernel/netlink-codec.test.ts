import assert from 'node:assert/strict';
import { it } from 'node:test';
import {
  attributeString,
  MessageWriter,
  parseAttributes,
  parseMessages,
} from '../../../src/kernel/netlink/codec.ts';
import { addressFromBytes, macFromBytes, parseAddress } from '../../../src/model/address.ts';

it('pads attributes to four bytes and nests them', () => {
  const message = new MessageWriter(0, 16)
    .message(16, 5)
    .struct(Uint8Array.of(1, 2, 3, 4))
    .string(3, 'cni0')
    .begin(18)
    .u16be(15, 8472)
    .end()
    .u32(4, 1450)
    .finish();
  assert.equal(message.readUInt32LE(0), message.length);
  const [parsed] = [...parseMessages(message)];
  assert.equal(parsed?.type, 16);
  assert.equal(parsed?.flags, 5);
  const attributes = parseAttributes(parsed?.payload ?? Buffer.alloc(0), 4);
  assert.equal(attributeString(attributes.get(3)), 'cni0');
  assert.equal(
    parseAttributes(attributes.get(18) ?? Buffer.alloc(0))
      .get(15)
      ?.readUInt16BE(0),
    8472,
  );
  assert.equal(attributes.get(4)?.readUInt32LE(0), 1450);
});

it('writes messages one behind the other, numbered, in memory that grows', () => {
  const address = parseAddress('10.1.2.3');
  const writer = new MessageWriter(1, 16).reset(7);
  for (let index = 0; index < 50; index++)
    writer.message(28, 0x400).struct([1, 2, 3]).address(1, address).mac(2, '02:00:00:00:0a:ff').u8(3, 200);
  const messages = [...parseMessages(writer.finish(4))];
  assert.equal(messages.length, 50);
  messages.forEach(({ type, flags, seq, payload }, index) => {
    assert.deepEqual({ type, flags, seq }, { type: 28, flags: index === 49 ? 0x405 : 0x401, seq: 7 + index });
    const attributes = parseAttributes(payload, 4);
    assert.deepEqual([...payload.subarray(0, 4)], [1, 2, 3, 0]);
    assert.equal(addressFromBytes(attributes.get(1)!).text, '10.1.2.3');
    assert.equal(macFromBytes(attributes.get(2)!), '02:00:00:00:0a:ff');
    assert.deepEqual([...attributes.get(3)!], [200]);
  });
  assert.deepEqual(
    [...parseMessages(writer.reset(1).message(16).finish())].map(({ seq }) => seq),
    [1],
  );
});

it('stops at a message or attribute that claims more than is there', () => {
  const message = new MessageWriter().message(16).u32(4, 1).finish();
  const lying = Buffer.from(message);
  lying.writeUInt32LE(4000, 0);
  assert.deepEqual([...parseMessages(lying)], []);
  const attribute = Buffer.from([200, 0, 4, 0, 1, 0, 0, 0]);
  assert.equal(parseAttributes(attribute).size, 0);
});

it('refuses to finish a message with an open attribute', () => {
  assert.throws(() => new MessageWriter().message(16).begin(18).finish(), /left open/);
});
