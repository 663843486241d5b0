import assert from 'node:assert/strict';
import { it } from 'node:test';
import {
  attributeString,
  MessageWriter,
  parseAttributes,
  parseMessages,
} from '../../src/kernel/netlink/codec.ts';

it('pads attributes to four bytes and nests them', () => {
  const message = new MessageWriter(16, 5, 16)
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

it('stops at a message or attribute that claims more than is there', () => {
  const message = new MessageWriter(16, 0).u32(4, 1).finish();
  const lying = Buffer.from(message);
  lying.writeUInt32LE(4000, 0);
  assert.deepEqual([...parseMessages(lying)], []);
  const attribute = Buffer.from([200, 0, 4, 0, 1, 0, 0, 0]);
  assert.equal(parseAttributes(attribute).size, 0);
});

it('refuses to finish a message with an open attribute', () => {
  assert.throws(() => new MessageWriter(16, 0).begin(18).finish(), /left open/);
});
