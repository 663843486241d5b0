// Asks a DNS server for an IPv4 address and prints the answer: node dns-query.js udp|tcp SERVER NAME SOURCE-PORT
import { createSocket } from 'node:dgram';
import { connect } from 'node:net';

const [transport, server, name, sourcePort] = process.argv.slice(2) as [string, string, string, string];

function query(): Buffer {
  const header = Buffer.from([0x12, 0x34, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0]);
  const labels = name.split('.').flatMap((label) => [Buffer.from([label.length]), Buffer.from(label)]);
  return Buffer.concat([header, ...labels, Buffer.from([0, 0, 1, 0, 1])]);
}

/** The last four bytes are the address of the only answer there is. */
function finish(answer: Buffer): void {
  if (answer.readUInt16BE(6) === 0) throw new Error('no such name');
  process.stdout.write(`${[...answer.subarray(-4)].join('.')}\n`);
  process.exit(0);
}

setTimeout(() => {
  process.stderr.write('no answer\n');
  process.exit(1);
}, 2000);

if (transport === 'udp') {
  const socket = createSocket('udp4');
  socket.on('message', finish);
  socket.bind(Number(sourcePort), () => socket.send(query(), 53, server));
} else {
  const socket = connect(53, server);
  const data = query();
  socket.on('data', (answer) => finish(answer.subarray(2)));
  socket.write(Buffer.concat([Buffer.from([0, data.length]), data]));
}
