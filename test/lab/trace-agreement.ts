import assert from 'node:assert/strict';
import type { TraceAnswer } from '../../src/inspect/trace/plan/answer.ts';
import { chiSquaredLimit } from './chi-squared.ts';
import type { LabNode } from './node.ts';
import type { Place } from './place.ts';
import type { Answer } from './probe-protocol.ts';
import { ServiceLab, type ServiceLabOptions } from './service-lab.ts';
import { patient } from './trace-lab.ts';
import { type TraceCase, TraceRandom, type TraceWorld } from './trace-world.ts';
import { Tracer } from './tracer.ts';

/** What a walk predicts: servers with their shares and the source that they see; `dead` is the share that dies. */
interface Prediction {
  readonly servers: ReadonlyMap<string, { readonly share: number; readonly sources: ReadonlySet<string> }>;
  readonly dead: number;
}

async function startWorld(options: ServiceLabOptions, proxyArgs: readonly string[]): Promise<TraceWorld> {
  const services = await ServiceLab.start(options);
  const [node, other] = services.lab.nodes as [LabNode, LabNode];
  const near: Place[] = [];
  for (const name of ['near1', 'near2', 'near3']) near.push(await services.addServer(node, name));
  const far: Place[] = [];
  for (const name of ['far1', 'far2']) far.push(await services.addServer(other, name));
  const outside = services.lab.client;
  await Promise.all([outside.serve(), node.serve()]);
  // Everybody outside reaches pods and Services by the node that is looked at.
  await services.lab.underlay.ip(
    ...['10.244.1.0/24', '10.96.0.0/15', '203.0.113.0/24'].map(
      (network) => `route add ${network} via ${node.ipv4}`,
    ),
    `route add 10.244.2.0/24 via ${other.ipv4}`,
  );
  await services.startProxy(node, proxyArgs);
  return { services, node, other, near, far, outside };
}

function predictionOf({ ways }: TraceAnswer, places: ReadonlyMap<string, string>): Prediction {
  const servers = new Map<string, { share: number; sources: Set<string> }>();
  let dead = 0;
  for (const { result, back, packet, probability } of ways) {
    const name = places.get(packet.destination);
    // What leaves for an address that nobody has dies out there.
    if (result === 'died' || name === undefined || back.some((part) => part.result === 'died')) {
      dead += probability;
      continue;
    }
    const known = servers.get(name) ?? { share: 0, sources: new Set() };
    servers.set(name, { share: known.share + probability, sources: known.sources.add(packet.source) });
  }
  return { servers, dead };
}

/** Connections for a case at least, and at most until each predicted server has answered. */
const LEAST = 12;
const MOST = 150;

/** What real connections reached: how often each server, `dead` for those without an answer. */
async function observe(
  one: TraceCase,
  { servers, dead }: Prediction,
): Promise<{ answers: Answer[]; lost: number }> {
  const answers: Answer[] = [];
  let lost = 0;
  const waits = new Set(one.sticky ? [] : servers.keys());
  // Each that dies takes as long as one waits for it.
  const least = one.sticky || dead > 0 ? 3 : servers.size > 1 ? LEAST : 1;
  for (let count = 0; count < MOST && (count < least || waits.size > 0); count++) {
    const { protocol, address, port } = one;
    try {
      const timeoutMs = dead > 0 ? 250 : patient;
      const answer = await one.from.probe.ask({ protocol, address, port, timeoutMs });
      answers.push(answer);
      waits.delete(answer.server);
    } catch {
      lost++;
    }
    // Where some die and some arrive, chance may have many die before each server has answered.
    if ((servers.size === 0 || dead === 0) && lost > 0) break;
  }
  return { answers, lost };
}

/** Sums of squared differences from the shares, and how many of them are free (Pearson). */
class Shares {
  private sum = 0;
  private freedom = 0;

  add(counts: ReadonlyMap<string, number>, { servers }: Prediction): void {
    const total = [...counts.values()].reduce((all, count) => all + count, 0);
    for (const [name, { share }] of servers) {
      const expected = total * share;
      this.sum += ((counts.get(name) ?? 0) - expected) ** 2 / expected;
    }
    this.freedom += servers.size - 1;
  }

  /** The sum in parts of what chance exceeds once in a hundred million times where shares are right. */
  get ofLimit(): number {
    return this.freedom === 0 ? 0 : this.sum / chiSquaredLimit(this.freedom + 1);
  }
}

function check(
  one: TraceCase,
  prediction: Prediction,
  seen: Awaited<ReturnType<typeof observe>>,
  what: string,
): void {
  const { servers, dead } = prediction;
  const { answers, lost } = seen;
  for (const { server, client } of answers) {
    const expected = servers.get(server);
    assert.ok(expected !== undefined, `${what}: reached ${server}, which was not predicted`);
    const address = client.replace(/^::ffff:/, '');
    assert.ok(
      expected.sources.has(address),
      `${what}: ${server} saw ${address}, not ${[...expected.sources]}`,
    );
  }
  if (dead === 0) assert.equal(lost, 0, `${what}: ${lost} connections died, and none should`);
  if (servers.size === 0) assert.equal(answers.length, 0, `${what}: it should die`);
  if (one.sticky) return;
  for (const name of servers.keys())
    assert.ok(
      answers.some(({ server }) => server === name),
      `${what}: ${name} was predicted and never reached`,
    );
}

/** What the cases were, so that a test can see that they were of all kinds. */
export interface Agreement {
  readonly cases: number;
  readonly spread: number;
  readonly died: number;
  readonly masqueraded: number;
  /** See {@link Shares}: above 1 they are not as predicted. */
  readonly ofLimit: number;
}

const CASES_PER_ROUND = 25;

async function checkRound(
  random: TraceRandom,
  world: TraceWorld,
  tracer: Tracer,
  count: number,
  tally: { spread: number; died: number; masqueraded: number; shares: Shares },
): Promise<void> {
  const places = new Map(
    [...world.near, ...world.far, world.node, world.outside].map((place) => [place.ipv4, place.name]),
  );
  await random.nextRound();
  const { make, undo } = random.mischief();
  await world.node.exec('sh', ['-c', make]);
  try {
    for (let index = 0; index < count; index++) {
      const one = random.next();
      const answer = await tracer.trace(one.fromName, `${one.address}:${one.port}`, one.protocol);
      const prediction = predictionOf(answer, places);
      const seen = await observe(one, prediction);
      const what = `${one.from.name} to ${one.address}:${one.port}/${one.protocol} (${make})`;
      check(one, prediction, seen, what);
      if (prediction.dead > 0) tally.died++;
      if (answer.ways.some(({ masqueraded }) => masqueraded)) tally.masqueraded++;
      if (one.sticky || prediction.dead > 0 || prediction.servers.size < 2) continue;
      tally.spread++;
      const counts = new Map<string, number>();
      // Those beyond the first were made because somebody was still missing: they would not be fair.
      for (const { server } of seen.answers.slice(0, LEAST))
        counts.set(server, (counts.get(server) ?? 0) + 1);
      tally.shares.add(counts, prediction);
    }
  } finally {
    await world.node.exec('sh', ['-c', undo]);
  }
}

/** Asks about random packets, and makes the connections. @throws AssertionError where the two differ */
export async function checkAgreement(
  options: ServiceLabOptions & {
    readonly cases: number;
    readonly seed: number;
    readonly proxyArgs?: readonly string[];
  },
): Promise<Agreement> {
  const world = await startWorld(options, options.proxyArgs ?? []);
  try {
    const random = new TraceRandom(world, options.seed);
    const tracer = new Tracer(world.node);
    const tally = { spread: 0, died: 0, masqueraded: 0, shares: new Shares() };
    for (let done = 0; done < options.cases; done += CASES_PER_ROUND)
      await checkRound(random, world, tracer, Math.min(CASES_PER_ROUND, options.cases - done), tally);
    const { spread, died, masqueraded, shares } = tally;
    return { cases: options.cases, spread, died, masqueraded, ofLimit: shares.ofLimit };
  } finally {
    await world.services.stop();
  }
}
