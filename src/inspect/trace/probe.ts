import type { Netns } from '../../kernel/netns.ts';
import { TwillError } from '../../model/error.ts';
import type { ProbeAnswer, TraceAnswer } from './plan/answer.ts';
import { judgeProbe, type ProbeResult } from './plan/probe.ts';
import type { TraceRequest } from './plan/request.ts';
import { runIn } from './rules.ts';

/** Long enough for a SYN that is lost and sent again a second later. */
const WAIT_MS = 2500;

/** Runs by itself inside the sender's namespace: sockets belong to the namespace that their process is in. */
const program = `
const [protocol, address, port, local, wait] = process.argv.slice(1);
const say = (result, text) => { process.stdout.write(JSON.stringify({ result, text })); process.exit(0); };
const failed = (error) => say(error.code === 'ECONNREFUSED' ? 'refused' : 'failed', error.code ?? error.message);
setTimeout(() => say('silent', 'no answer within ' + wait + ' ms'), Number(wait));
if (protocol === 'tcp') {
  const options = { host: address, port: Number(port), ...(local === '' ? {} : { localAddress: local }) };
  require('node:net').connect(options, () => say('answered', 'the connection stands')).on('error', failed);
} else {
  const socket = require('node:dgram').createSocket(address.includes(':') ? 'udp6' : 'udp4');
  socket.on('error', failed).on('message', () => say('answered', 'a datagram came back'));
  socket.bind(0, local === '' ? undefined : local, () =>
    socket.connect(Number(port), address, () => socket.send('twill trace --probe')));
}
`;

/**
 * Sends a real packet of a connection from where the walk began, and compares. Nothing is said over the connection; over
 * UDP one datagram is.
 * @throws TwillError `invalid` where there is nothing to send from or to
 */
export async function probe(
  netns: Netns | undefined,
  { from, protocol, destination, port }: TraceRequest,
  answer: TraceAnswer,
): Promise<ProbeAnswer> {
  if (from.kind === 'outside')
    throw new TwillError(
      'invalid',
      '--probe sends from this node or one of its pods: nothing can be sent from elsewhere',
    );
  if (protocol === 'sctp' || port === undefined)
    throw new TwillError('invalid', '--probe needs TCP or UDP, and a port');
  const args = [protocol, destination, String(port), from.address ?? '', String(WAIT_MS)];
  const result = await runIn(netns, process.execPath, ['-e', program, ...args]);
  let found: ProbeResult;
  try {
    found = JSON.parse(result?.stdout ?? '') as ProbeResult;
  } catch (cause) {
    throw new TwillError('internal', `the probe said nothing: ${result?.stderr.trim()}`, cause);
  }
  return judgeProbe(answer, found);
}
