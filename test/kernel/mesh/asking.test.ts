import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { after, before, describe, it, test } from 'node:test';
import { pino } from 'pino';
import { inNetns } from '../../../src/kernel/netns.ts';
import { type Lease, noOrder } from '../../../src/leases/plan/lease.ts';
import { ask } from '../../../src/mesh/asker.ts';
import { askInFamily } from '../../../src/mesh/asking.ts';
import {
  makeAnswer,
  makeQuestion,
  PACKET_BYTES,
  questionBytes,
  readAnswer,
} from '../../../src/mesh/plan/packet.ts';
import type { MeshPath, MeshPlace } from '../../../src/mesh/plan/places.ts';
import type { Reply } from '../../../src/mesh/plan/record.ts';
import { Responder } from '../../../src/mesh/responder.ts';
import { ipv4, ipv6, parseAddress, parsePrefix } from '../../../src/model/address.ts';
import { makeNamespace, type Namespace } from '../../lab/namespace.ts';
import { waitFor } from '../../lab/wait.ts';

const port = 8473;
const bytes = (length: number, first = 1): Uint8Array =>
  Uint8Array.from({ length }, (_, index) => index + first);
const question = (pair = 1): Uint8Array => makeQuestion(bytes(8, pair), bytes(16));
const log = pino({ level: 'silent' });
/** Has this process do nothing for so long. */
const hold = (ms: number): void => {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
};

const worlds = [
  { family: ipv4, here: '192.0.2.1', there: '192.0.2.2', nobody: '198.51.100.1', length: 24 },
  { family: ipv6, here: '2001:db8::1', there: '2001:db8::2', nobody: '2001:db8:9::1', length: 64 },
];

for (const { family, here, there, nobody, length } of worlds)
  describe(`asking a node over ${family.kubeName}`, () => {
    let near: Namespace;
    let far: Namespace;
    let responder: Responder;
    let allowed: (place: MeshPlace, from: string) => boolean = () => true;
    const floods: MeshPlace[] = [];
    let largest = 0;

    const put = (
      to: string,
      { timeoutMs = 3000, packet = question(), from = here } = {},
    ): Promise<Reply | undefined> =>
      // Its socket is made, and bound, before it returns.
      inNetns(near.path, () => {
        const [own, other] = [parseAddress(from), parseAddress(to)];
        return { reply: ask({ family, from: own, to: other, port, packet, timeoutMs }) };
      }).reply;
    /** Asked again where this process was too busy to listen. */
    const assertLost = async (options: NonNullable<Parameters<typeof put>[1]>): Promise<void> =>
      assert.deepEqual(await waitFor('a reply, or none in time', () => put(there, options)), {
        kind: 'lost',
      });
    const place = (address = there, path: MeshPath = 'underlay'): MeshPlace => ({
      path,
      family,
      address: parseAddress(address),
    });
    const answering = (places: readonly MeshPlace[]): Promise<void> =>
      // So is the first socket that is missing.
      inNetns(far.path, () => ({ done: responder.serve(places) })).done;

    before(async () => {
      [near, far] = [await makeNamespace('near'), await makeNamespace('far')];
      const flags = family === ipv6 ? 'nodad' : '';
      await near.ip(`link add eth0 type veth peer name eth0 netns ${far.name}`, 'link set eth0 up');
      await far.ip('link set eth0 up', `address add ${there}/${length} dev eth0 ${flags}`);
      await near.ip(`address add ${here}/${length} dev eth0 ${flags}`);
      responder = new Responder({
        port,
        log,
        mayAsk: (at, from) => allowed(at, from),
        largest: () => largest,
        onFlood: (at) => floods.push(at),
      });
    });
    after(async () => {
      responder?.close();
      await near?.remove();
      await far?.remove();
    });

    it('tells an answer, a refusal, silence, and what its own kernel does not let out', async () => {
      assert.deepEqual(await put(there), { kind: 'refused' });
      await answering([place()]);
      const reply = await put(there);
      assert.equal(reply?.kind, 'answered');
      assert.ok(reply.micros > 0);
      assert.deepEqual(reply.facts, { servesOverlay: false, heard: false, largest: 0 });
      assert.deepEqual(await put(nobody), { kind: 'unsent', why: 'ENETUNREACH' });
      const route = family === ipv4 ? `${nobody}/32` : `${nobody}/128`;
      await near.ip(`route add blackhole ${route}`);
      assert.deepEqual(await put(nobody), { kind: 'unsent', why: 'EINVAL' });
      await near.ip(`route replace prohibit ${route}`);
      assert.deepEqual(await put(nobody), { kind: 'unsent', why: 'EACCES' });
      assert.deepEqual(await put(there, { from: nobody }), { kind: 'unsent', why: 'EADDRNOTAVAIL' });
      const table = (rule: string): string =>
        `add table inet lab\nadd chain inet lab out { type filter hook output priority 0; }\nadd rule inet lab out ${rule}\n`;
      await near.exec('nft', ['-f', '-'], { input: table('udp dport 8473 drop') });
      assert.deepEqual(await put(there), { kind: 'unsent', why: 'EPERM' });
      await near.exec('nft', ['delete', 'table', 'inet', 'lab']);
      await far.exec('nft', ['-f', '-'], { input: table('udp sport 8473 drop') });
      await assertLost({ timeoutMs: 100 });
      await far.exec('nft', ['delete', 'table', 'inet', 'lab']);
      assert.equal((await put(there))?.kind, 'answered');
    });

    it('says nothing where this process did not listen in time', async () => {
      const reply = put(there, { timeoutMs: 50 });
      hold(500);
      assert.equal(await reply, undefined);
    });

    it('says that it serves the overlay, and whether the question by it has come', async () => {
      const second = family === ipv4 ? '10.244.2.0' : 'fd00:244:2::';
      await far.ip(`address add ${second}/${family.bits} dev lo ${family === ipv6 ? 'nodad' : ''}`);
      await near.ip(`route add ${second}/${family.bits} via ${there}`);
      await answering([place(), place(second, 'overlay')]);
      const facts = async (to: string, pair: number): Promise<unknown> => {
        const reply = await put(to, { packet: question(pair) });
        return reply?.kind === 'answered' ? reply.facts : reply;
      };
      assert.deepEqual(await facts(there, 5), { servesOverlay: true, heard: false, largest: 0 });
      assert.deepEqual(await facts(second, 6), { servesOverlay: true, heard: false, largest: 0 });
      assert.deepEqual(await facts(there, 6), { servesOverlay: true, heard: true, largest: 0 });
      assert.deepEqual(await facts(there, 5), { servesOverlay: true, heard: false, largest: 0 });
      await answering([place()]);
      assert.deepEqual(await facts(there, 7), { servesOverlay: false, heard: false, largest: 0 });
    });

    it('packets as large as pods send are answered by as large ones, if they get there, and no larger ones', async () => {
      const large = (packetBytes: number): Uint8Array =>
        makeQuestion(bytes(8), bytes(16), questionBytes(family, packetBytes));
      largest = 1400;
      const fits = await put(there, { packet: large(1400) });
      assert.equal(fits?.kind === 'answered' && fits.facts.largest, 1400);
      await far.ip('link set eth0 mtu 1300');
      await assertLost({ packet: large(1400), timeoutMs: 200 });
      assert.equal((await put(there, { packet: large(1300) }))?.kind, 'answered');
      await far.ip('link set eth0 mtu 1500');
      // Nobody who is not a pod sends that much.
      const passedOver = responder.passedOver;
      await assertLost({ packet: large(1500), timeoutMs: 200 });
      assert.ok(responder.passedOver > passedOver);
      largest = 0;
      await assertLost({ packet: large(1400), timeoutMs: 200 });
    });

    it('an address that the node does not have is waited for; a port that another has is named', async () => {
      const missing = place(nobody, 'overlay');
      await answering([missing]);
      assert.ok(!responder.serves(missing));
      const other = inNetns(far.path, () => {
        const socket = createSocket({
          type: family === ipv4 ? 'udp4' : 'udp6',
          ipv6Only: family === ipv6,
          lookup: (address, _options, done) => done(null, address, family === ipv4 ? 4 : 6),
        });
        socket.bind({ address: there, port, exclusive: true });
        return socket;
      });
      await assert.rejects(answering([place()]), {
        code: 'conflict',
        message: new RegExp(`UDP port 8473 of ${there}: another program has it: .*--mesh-probe-port`),
      });
      other.close();
      await answering([place()]);
      assert.ok(responder.serves(place()));
    });

    it('answers no stranger, nothing that is no question, and not more than a node asks', async () => {
      const before = responder.answered;
      allowed = (_, from) => from !== here;
      await assertLost({ timeoutMs: 100 });
      allowed = () => true;
      assert.equal(responder.answered, before);

      const stranger = inNetns(near.path, () => {
        const socket = createSocket({
          type: family === ipv4 ? 'udp4' : 'udp6',
          lookup: (address, _options, done) => done(null, address, family === ipv4 ? 4 : 6),
        });
        socket.bind({ address: here, port: 0, exclusive: true });
        return socket;
      });
      const came: Buffer[] = [];
      stranger.on('message', (answer) => came.push(answer));
      const good = question();
      const bad = [
        new Uint8Array(0),
        bytes(1),
        bytes(PACKET_BYTES),
        good.subarray(0, 31),
        Uint8Array.from([...good, 1]),
        makeAnswer(good, { servesOverlay: true, heard: true, largest: 1450 }),
        new Uint8Array(60_000),
      ];
      for (const packet of [...bad, good]) stranger.send(packet, port, there);
      await once(stranger, 'message');
      assert.equal(came.length, 1, 'one answer, to the one question');
      assert.equal(came[0]!.length, good.length);
      assert.ok(readAnswer(good, came[0]!));

      // Far more than all nodes together ask: it is no longer listened to, and a little later again.
      for (let count = 0; count < 3000 && floods.length === 0; count++) {
        stranger.send(good, port, there, () => {});
        if (count % 50 === 0) await new Promise((resolve) => setImmediate(resolve));
      }
      await waitFor('the place to be closed', () => floods.length === 1);
      assert.ok(!responder.serves(place()));
      assert.ok(responder.answered - before < 100, `${responder.answered - before} were answered`);
      stranger.close();
      await answering([place()]);
      assert.ok(!responder.serves(place()), 'not before its time');
      await waitFor('the place to be served again', async () => {
        await answering([place()]);
        return responder.serves(place());
      });
      await waitFor('an answer', async () => (await put(there))?.kind === 'answered');
    });
  });

test('nothing is said of large packets where this process did not listen in time for the answer to one', async () => {
  // All of loopback: what asks later than at once is in no namespace of ours.
  const place = (path: MeshPath, address: string): MeshPlace => ({
    path,
    family: ipv4,
    address: parseAddress(address),
  });
  const there: Lease = {
    name: 'there',
    backend: 'vxlan',
    vni: 1,
    families: [
      {
        family: ipv4,
        subnet: parsePrefix('127.9.2.0/24'),
        publicIp: parseAddress('127.9.0.2'),
        vtepMac: '02:00:00:00:00:02',
      },
    ],
    order: noOrder,
  };
  const backend = {
    type: 'vxlan',
    vni: 1,
    port: 8472,
    mtu: undefined,
    directRouting: false,
    learning: false,
    gbp: false,
  } as const;
  let questions = 0;
  let busy = false;
  const responder = new Responder({
    port,
    log,
    mayAsk: () => {
      // The third one is the large one.
      if (++questions % 3 === 0 && busy) hold(1500);
      return true;
    },
    largest: () => 1400,
    onFlood: () => {},
  });
  try {
    await responder.serve([place('underlay', '127.9.0.2'), place('overlay', '127.9.2.0')]);
    const own = [place('underlay', '127.9.0.1'), place('overlay', '127.9.1.0')];
    const asked = () => askInFamily(there, ipv4, { backend, largest: 1450 }, own, { port, timeoutMs: 1000 });
    const large = (await asked())?.large;
    assert.deepEqual([large?.bytes, large?.reply.kind], [1400, 'answered']);
    busy = true;
    assert.equal(await asked(), undefined);
    assert.equal(questions, 6);
  } finally {
    responder.close();
  }
});
