import type { ProbeAnswer, TraceAnswer, TraceWay } from './answer.ts';

export type ProbeResult = Pick<ProbeAnswer, 'result' | 'text'>;

const words: Readonly<Record<ProbeResult['result'], string>> = {
  answered: 'was answered',
  refused: 'was refused',
  silent: 'was not answered',
  failed: 'could not be sent',
};

/** Results that fit a way. */
function fitting(
  { result, back, steps, reason }: TraceWay,
  protocol: string,
): readonly ProbeResult['result'][] {
  if (result === 'died' && /^rejected /.test(reason)) return ['refused', 'failed'];
  if (result === 'died' || back.some((part) => part.result === 'died'))
    return ['silent', 'refused', 'failed'];
  if (steps.some(({ kind, text }) => kind === 'note' && text.startsWith('nobody listens')))
    return ['refused'];
  // Whoever serves UDP need not answer, and what has left this node may be refused elsewhere.
  const unsure: ProbeResult['result'][] = protocol === 'udp' ? ['silent'] : [];
  return ['answered', ...(result === 'left' ? (['refused'] as const) : []), ...unsure];
}

/** Whether a real packet did what one of the ways says. */
export function judgeProbe({ ways, protocol }: TraceAnswer, { result, text }: ProbeResult): ProbeAnswer {
  const agrees = ways.some((way) => fitting(way, protocol).includes(result));
  return { result, text: `it ${words[result]} (${text})`, agrees };
}
