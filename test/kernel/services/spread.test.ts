import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import pino from 'pino';
import { openIptables } from '../../../src/kernel/iptables.ts';
import { libc } from '../../../src/kernel/libc.ts';
import { inNetns } from '../../../src/kernel/netns.ts';
import { openNftTable } from '../../../src/kernel/nft-table.ts';
import { type Family, families, ipv4, parseAddress, writeAddress } from '../../../src/model/address.ts';
import type { FamilyRules } from '../../../src/services/family-rules.ts';
import { ProxyRules } from '../../../src/services/iptables/rules.ts';
import { tableName } from '../../../src/services/nftables/plan/names.ts';
import { NftRules } from '../../../src/services/nftables/rules.ts';
import { chiSquared, chiSquaredLimit } from '../../lab/chi-squared.ts';
import { type Namespace, withNamespace } from '../../lab/namespace.ts';
import {
  nftOptionsFor,
  renderOptionsFor,
  serviceObject,
  sliceObject,
  stateOf,
} from '../../lab/service-fixtures.ts';
import { kindName, type RulesKind, rulesKinds } from '../../lab/service-lab.ts';
import { waitFor } from '../../lab/wait.ts';

const log = pino({ level: 'silent' });
const node = { name: 'node-a' };
const CONNECTIONS = 30_000;

function makeRules(kind: RulesKind, namespace: Namespace, family: Family = ipv4): FamilyRules {
  if (kind === 'nftables')
    return new NftRules({
      table: openNftTable(family, tableName, namespace.name),
      render: nftOptionsFor(family),
      node,
      log,
    });
  const render = renderOptionsFor(family, { localhostNodePorts: false });
  return new ProxyRules({
    family,
    iptables: openIptables(family, kind, namespace.name),
    render,
    node,
    log,
  });
}

const clusterIP = (number: number, v6: boolean): string => (v6 ? `fd00:96::${number}` : `10.96.0.${number}`);

/** A UDP Service with its number's cluster address and that many endpoints. @param seconds of session affinity */
function service(number: number, endpoints: readonly string[], seconds = 0): ReturnType<typeof stateOf> {
  const name = `ns/s${number}`;
  const affinity = {
    sessionAffinity: 'ClientIP',
    sessionAffinityConfig: { clientIP: { timeoutSeconds: seconds } },
  };
  return stateOf(
    serviceObject(name, {
      clusterIP: clusterIP(number, endpoints[0]!.includes(':')),
      ports: [{ name: 'dns', port: 53, protocol: 'UDP' }],
      ...(seconds > 0 ? affinity : {}),
    }),
    sliceObject(
      name,
      [{ name: 'dns', port: 5353, protocol: 'UDP' }],
      endpoints.map((ip) => ({ ip })),
    ),
  );
}

const pods = (count: number, family: Family = ipv4): string[] =>
  Array.from({ length: count }, (_, index) =>
    family === ipv4 ? `10.244.7.${index + 1}` : `fd00:244::${(index + 1).toString(16)}`,
  );

const SOCK_DGRAM = 2;

/**
 * A node that counts where what it sends would go, and lets nothing go there: each datagram is the first of a connection,
 * as the kernel forgets one of which no packet has left.
 */
class Sender {
  private readonly namespace: Namespace;
  private readonly family: Family;
  private readonly socket: number;

  private constructor(namespace: Namespace, family: Family) {
    this.namespace = namespace;
    this.family = family;
    this.socket = inNetns(namespace.path, () => ({ fd: libc().socket(family.af, SOCK_DGRAM, 0) })).fd;
  }

  static async in(namespace: Namespace, family: Family = ipv4): Promise<Sender> {
    await namespace.ip(
      'link add out type veth peer name far',
      'link set far up',
      'link set out up',
      'address add 192.0.2.1/24 dev out',
      'address add fd00:192::1/64 dev out nodad',
      'route add default dev out',
      'route add ::/0 dev out',
    );
    const table = `table ${family.nft} seen {
      set seen { type ${family.name}_addr; size 1024; flags dynamic; }
      chain out {
        type filter hook output priority 200;
        meta l4proto udp update @seen { ${family.nft} daddr counter } drop;
      }
    }`;
    await namespace.exec('nft', ['-f', '-'], { input: table });
    return new Sender(namespace, family);
  }

  /** @returns how many datagrams to the Service of that number went to which address */
  async send(number: number, count: number): Promise<Map<string, number>> {
    const { family, namespace } = this;
    // struct sockaddr_in, struct sockaddr_in6: an IPv6 address is behind four bytes of flow label.
    const to = Buffer.alloc(family === ipv4 ? 16 : 28);
    to.writeUInt16LE(family.af, 0);
    to.writeUInt16BE(53, 2);
    writeAddress(parseAddress(clusterIP(number, family !== ipv4)), to, family === ipv4 ? 4 : 8);
    await namespace.exec('nft', [`flush set ${family.nft} seen seen`]);
    // Each is refused: the rule drops it.
    for (let sent = 0; sent < count; sent++) libc().sendto(this.socket, to, 1, 0, to, to.length);
    const text = await namespace.exec('nft', [`list set ${family.nft} seen seen`]);
    return new Map(
      [...text.matchAll(/([\da-f.:]+) counter packets (\d+)/g)].map(([, ip, n]) => [ip!, Number(n)]),
    );
  }

  close(): void {
    libc().close(this.socket);
  }
}

for (const kind of rulesKinds) {
  describe(kindName(kind), () => {
    test('30,000 connections spread evenly over 3, 5, 7 and 100 endpoints', async () => {
      await withNamespace('spread', async (namespace) => {
        const sizes = [3, 5, 7, 100];
        await makeRules(kind, namespace).sync(
          sizes.map((size) => service(size, pods(size))),
          true,
        );
        const sender = await Sender.in(namespace);
        for (const size of sizes) {
          const seen = await sender.send(size, CONNECTIONS);
          assert.deepEqual([...seen.keys()].sort(), pods(size).sort());
          const counts = [...seen.values()];
          assert.equal(
            counts.reduce((sum, count) => sum + count, 0),
            CONNECTIONS,
          );
          assert.ok(chiSquared(counts) < chiSquaredLimit(size), `${size}: ${counts}`);
        }
        sender.close();
      });
    });

    for (const family of families) {
      test(`a client keeps its endpoint for its time, gets another when that goes, and after that time: ${family.kubeName}`, async () => {
        await withNamespace('affinity', async (namespace) => {
          const rules = makeRules(kind, namespace, family);
          await rules.sync([service(1, pods(20, family), 10_800), service(2, pods(100, family), 1)], true);
          const sender = await Sender.in(namespace, family);
          const only = async (): Promise<string> => {
            const seen = await sender.send(1, 500);
            assert.deepEqual([...seen.values()], [500]);
            return [...seen.keys()][0]!;
          };
          const first = await only();
          // Others come and go.
          await rules.sync(
            [
              service(
                1,
                [...pods(20, family).filter((ip) => ip === first), ...pods(40, family).slice(20)],
                10_800,
              ),
            ],
            false,
          );
          assert.equal(await only(), first);
          const left = pods(40, family).filter((ip) => ip !== first);
          await rules.sync([service(1, left, 10_800)], false);
          const second = await only();
          assert.ok(left.includes(second));
          // What has come back is an endpoint like any other.
          await rules.sync([service(1, pods(40, family), 10_800)], false);
          assert.equal(await only(), second);

          const before = [...(await sender.send(2, 1)).keys()].join();
          await waitFor('another endpoint after the time of affinity', async () => {
            await sleep(1500);
            return [...(await sender.send(2, 1)).keys()].join() !== before;
          });
          sender.close();
        });
      });
    }
  });
}

test('an uneven spread is told from an even one', () => {
  assert.ok(chiSquared([10_000, 10_050, 9950]) < chiSquaredLimit(3));
  assert.ok(chiSquared([10_500, 9500, 10_000]) > chiSquaredLimit(3));
  // One of a hundred gets twice its part.
  assert.ok(chiSquared([...Array(99).fill(297), 594]) > chiSquaredLimit(100));
});
