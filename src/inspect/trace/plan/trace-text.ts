import { oneLine, wrapText } from '../../../model/text.ts';
import type { ProbeAnswer, TraceAnswer, TraceEnd, TracePart, TraceWay } from './answer.ts';
import { endText } from './packet.ts';
import type { Step } from './state.ts';

/** How a word is meant, for colours where there are any. */
export type Mark = (text: string, tone: 'good' | 'poor' | 'bad' | 'faint' | 'strong') => string;

export interface TextOptions {
  readonly paint: Mark;
  /** Columns. */
  readonly width: number;
}

const LABEL = 12;

/** A rule without what its comment and its modules say twice. */
function shortRule(rule: string): string {
  return rule
    .replace(/-m comment --comment (?:"(?:[^"\\]|\\.)*"|\S+) ?/, '')
    .replace(/-m (tcp|udp|sctp|conntrack|mark|addrtype|statistic) (?=(?:! )?--)/g, '')
    .trim();
}

/** What happens, in one line: of a rule its chain, comment and counter, too. */
export function stepText(step: Step): string {
  if (step.kind !== 'rule' && step.kind !== 'policy') return step.text;
  const legacy = step.program === 'iptables-legacy' ? 'legacy ' : '';
  const comment = step.comment === undefined ? '' : ` "${step.comment}"`;
  const count = step.packets === undefined ? '' : ` [${step.packets}]`;
  return `${legacy}${step.chain}: ${shortRule(step.text)}${comment}${count}`;
}

/** The word before it: of a rule its table. */
export function stepLabel(step: Step): string {
  return (step.kind === 'rule' || step.kind === 'policy' ? step.table : step.kind) ?? '';
}

class Writer {
  private readonly lines: string[] = [];
  private readonly options: TextOptions;
  private where: string | undefined;

  constructor(options: TextOptions) {
    this.options = options;
  }

  line(text: string, indent = 0, tone?: Parameters<Mark>[1]): void {
    const { paint, width } = this.options;
    const room = Math.max(30, width - indent);
    for (const [index, part] of wrapText(oneLine(text), room - 2).entries()) {
      const pad = ' '.repeat(index === 0 ? indent : indent + 2);
      this.lines.push(`${pad}${tone === undefined ? part : paint(part, tone)}`);
    }
  }

  gap(): void {
    this.where = undefined;
    if (this.lines.at(-1) !== '') this.lines.push('');
  }

  steps(steps: readonly Step[], indent: number): void {
    for (const step of steps) this.step(step, indent);
  }

  private step(step: Step, indent: number): void {
    const { paint, width } = this.options;
    if (step.where !== this.where) this.line(step.where, indent, 'strong');
    this.where = step.where;
    const label = stepLabel(step);
    const left = indent + 2 + LABEL;
    for (const [index, part] of wrapText(oneLine(stepText(step)), width - left).entries()) {
      const head = index === 0 ? paint(label.padEnd(LABEL), 'faint') : ' '.repeat(LABEL);
      this.lines.push(`${' '.repeat(indent + 2)}${head}${part}`);
    }
  }

  toString(): string {
    return this.lines.map((line) => `${line.trimEnd()}\n`).join('');
  }
}

export function percent(probability: number): string {
  const value = probability * 100;
  return `${value >= 10 || value === 0 ? Math.round(value * 10) / 10 : Number(value.toPrecision(2))} %`;
}

const tones = { delivered: 'good', left: 'good', died: 'bad' } as const;

/** Where the packet ends, and how. */
export function endLine({ result, where, reason, packet }: TracePart): string {
  const to = endText(packet.destination, packet.port);
  if (result === 'delivered') return `ARRIVES at ${where}: ${to}, from ${packet.source}`;
  if (result === 'left') return `LEAVES this node: ${reason}, to ${to}, from ${packet.source}`;
  return `DIES at ${where}: ${reason}`;
}

function writeEnd(writer: Writer, part: TracePart, indent: number): void {
  writer.line(endLine(part), indent, tones[part.result]);
  if (part.advice !== undefined) writer.line(`try: ${part.advice}`, indent + 2);
}

function writeBack(writer: Writer, way: TraceWay, indent: number): void {
  for (const part of way.back) {
    writer.gap();
    writer.line('the answer', indent, 'strong');
    for (const condition of part.conditions) writer.line(condition, indent + 2, 'poor');
    writer.steps(part.steps, indent);
    if (part.result === 'died') writeEnd(writer, part, indent);
    else
      writer.line(
        `THE ANSWER comes back, from ${endText(part.packet.source, part.packet.sourcePort)}`,
        indent,
        'good',
      );
  }
}

/** How many steps all ways begin with. */
export function commonSteps(ways: readonly TraceWay[]): number {
  const [first, ...others] = ways;
  if (first === undefined) return 0;
  if (others.length === 0) return first.steps.length;
  const isSame = (a: Step | undefined, b: Step): boolean =>
    a !== undefined && JSON.stringify(a) === JSON.stringify(b);
  const at = first.steps.findIndex((step, index) => others.some((way) => !isSame(way.steps[index], step)));
  return at < 0 ? first.steps.length : at;
}

const endName = ({ name, address, port }: TraceEnd): string => {
  if (address === '') return name;
  const at = endText(address, port);
  return name === address || name === at ? at : `${name} (${at})`;
};

/** What becomes of the packet, in one line. */
export function summary({ verdict, ways }: TraceAnswer): string {
  const dead = ways.filter(
    ({ result, back }) => result === 'died' || back.some((part) => part.result === 'died'),
  );
  const count = ways.length === 1 ? 'the one way' : `all of ${ways.length} ways`;
  if (verdict === 'delivered') return `ARRIVES, by ${count}`;
  if (verdict === 'unknown')
    return 'CANNOT BE TOLD: it depends on what was not understood or could not be read, see below';
  return dead.length === ways.length ? `DIES, by ${count}` : `DIES by ${dead.length} of ${ways.length} ways`;
}

function writeProbe(writer: Writer, probe: ProbeAnswer): void {
  writer.gap();
  writer.line(`A real packet: ${probe.text}`, 0, probe.agrees ? 'good' : 'bad');
  writer.line(probe.agrees ? 'as the walk says' : 'the walk says otherwise', 2);
}

/** Who sends to whom. */
export const title = ({ from, to, protocol }: TraceAnswer): string =>
  `${endName(from)} -> ${endName(to)} over ${protocol}`;

/** The trace for people: what all ways have in common once, then each way. */
export function traceText(answer: TraceAnswer, options: TextOptions): string {
  const writer = new Writer(options);
  const { ways, notes, verdict } = answer;
  writer.line(title(answer), 0, 'strong');
  writer.line(summary(answer), 0, verdict === 'delivered' ? 'good' : verdict === 'dies' ? 'bad' : 'poor');
  for (const note of notes) writer.line(`note: ${note}`, 0, 'poor');
  writer.gap();
  const shared = commonSteps(ways);
  writer.steps(ways[0]?.steps.slice(0, shared) ?? [], 0);
  const several = ways.length > 1;
  for (const way of ways) {
    if (several) {
      writer.gap();
      writer.line(`${percent(way.probability)} of connections`, 0, 'strong');
    }
    const indent = several ? 2 : 0;
    for (const condition of way.conditions) writer.line(condition, indent, 'poor');
    writer.steps(way.steps.slice(shared), indent);
    writeEnd(writer, way, indent);
    writeBack(writer, way, indent);
  }
  if (answer.probe !== undefined) writeProbe(writer, answer.probe);
  return writer.toString();
}
