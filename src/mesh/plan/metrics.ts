import { type Conclusion, conclusions } from './conclusion.ts';
import type { MeshPath } from './places.ts';
import { type MeshCounts, type MeshState, roundTripBounds } from './state.ts';

interface Metric {
  readonly name: string;
  readonly kind: 'gauge' | 'counter' | 'histogram';
  readonly help: string;
  /** The ends of its lines: what comes after the name. */
  readonly samples: (state: MeshState) => readonly string[];
}

const byPath = (of: (counts: MeshCounts, label: string) => readonly string[]) => (state: MeshState) =>
  (['underlay', 'overlay'] as const).flatMap((path: MeshPath) => of(state.counts[path], `path="${path}"`));

function roundTrips({ buckets, seconds }: MeshCounts, label: string): string[] {
  let total = 0;
  const cumulative = buckets.map((count, index) => {
    total += count;
    return `_bucket{${label},le="${roundTripBounds[index] ?? '+Inf'}"} ${total}`;
  });
  return [...cumulative, `_sum{${label}} ${seconds}`, `_count{${label}} ${total}`];
}

/** As many as there are conclusions and paths, however many nodes there are: which node it is, status says. */
const metrics: readonly Metric[] = [
  {
    name: 'twill_mesh_nodes',
    kind: 'gauge',
    help: 'Other nodes by what is concluded of them (overlay: reached by the underlay but not by the overlay; small: not by packets as large as pods send), each family for itself.',
    samples: (state) =>
      conclusions.map((one: Conclusion) => `{conclusion="${one}"} ${state.conclusions[one] ?? 0}`),
  },
  {
    name: 'twill_mesh_pass_seconds',
    kind: 'gauge',
    help: 'Time in which each other node is asked once.',
    samples: ({ passSeconds }) => [` ${passSeconds}`],
  },
  {
    name: 'twill_mesh_questions_total',
    kind: 'counter',
    help: 'Questions to other nodes.',
    samples: byPath(({ asked }, label) => [`{${label}} ${asked}`]),
  },
  {
    name: 'twill_mesh_questions_lost_total',
    kind: 'counter',
    help: 'Questions to other nodes to which nothing came back.',
    samples: byPath(({ lost }, label) => [`{${label}} ${lost}`]),
  },
  {
    name: 'twill_mesh_round_trip_seconds',
    kind: 'histogram',
    help: 'Time from a question to its answer.',
    samples: byPath(roundTrips),
  },
  {
    name: 'twill_mesh_answers_total',
    kind: 'counter',
    help: 'Questions of other nodes that were answered.',
    samples: ({ answered }) => [` ${answered}`],
  },
  {
    name: 'twill_mesh_passed_over_total',
    kind: 'counter',
    help: 'Packets to the port of the mesh that were not answered: from no node, no question, or too many.',
    samples: ({ passedOver }) => [` ${passedOver}`],
  },
];

/** In Prometheus' text format. @param state undefined where nothing is measured: then the names alone */
export function meshMetricLines(state: MeshState | undefined): string[] {
  return metrics.flatMap(({ name, kind, help, samples }) => [
    `# HELP ${name} ${help}`,
    `# TYPE ${name} ${kind}`,
    ...(state === undefined ? [] : samples(state).map((sample) => `${name}${sample}`)),
  ]);
}
