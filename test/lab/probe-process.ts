// Runs inside a namespace: serves TCP and UDP, and sends requests, as it is told on standard input. Once started it
// goes on serving when nobody talks to it any more, until it is killed.
import { createSocket, type Socket as Datagrams } from 'node:dgram';
import { connect, createServer, isIPv6, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import type { Answer, ProbeReply, ProbeRequest, StreamResult, Target } from './probe-protocol.ts';

const defaultTimeoutMs = 10_000;
/** What the kernel gives at most: twice of what it gives by itself, for a process that has to wait for its turn. */
const recvBufferSize = 1 << 22;

/** A dual-stack socket shows IPv4 peers as IPv4-mapped IPv6. */
function plain(address: string): string {
  return address.replace(/^::ffff:/, '');
}

function answer(server: string, client: string | undefined): string {
  const value: Answer = { server, client: plain(client ?? '') };
  return `${JSON.stringify(value)}\n`;
}

async function listen(port: number, name: string): Promise<void> {
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.on('data', (chunk) => {
      for (const byte of chunk) if (byte === 10) socket.write(answer(name, socket.remoteAddress));
    });
  });
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(port, '::', resolve));
  const datagrams = createSocket({ type: 'udp6', recvBufferSize });
  datagrams.on('error', () => {});
  datagrams.on('message', (_, peer) => datagrams.send(answer(name, peer.address), peer.port, peer.address));
  await new Promise<void>((resolve) => datagrams.bind(port, '::', resolve));
}

/** One way to send a request line and receive answer lines, over TCP or UDP. */
interface Channel {
  send(): void;
  close(): void;
}

interface ChannelEvents {
  readonly opened: () => void;
  readonly received: (line: string) => void;
  readonly failed: (error: Error) => void;
}

function openTcp(target: Target, events: ChannelEvents): Channel {
  const socket: Socket = connect(target.port, target.address);
  let rest = '';
  socket.setNoDelay(true);
  socket.on('connect', events.opened);
  socket.on('error', events.failed);
  socket.on('close', () => events.failed(new Error('connection closed')));
  socket.on('data', (chunk) => {
    const lines = (rest + chunk.toString()).split('\n');
    rest = lines.pop()!;
    for (const line of lines) events.received(line);
  });
  return { send: () => socket.write('?\n'), close: () => socket.destroy() };
}

function openUdp(target: Target, events: ChannelEvents): Channel {
  const socket: Datagrams = createSocket({
    type: isIPv6(target.address) ? 'udp6' : 'udp4',
    recvBufferSize,
  });
  socket.on('error', events.failed);
  socket.on('message', (message) => events.received(message.toString()));
  socket.connect(target.port, target.address, () => events.opened());
  return {
    send: () => socket.send('?\n', () => {}),
    close: () => socket.close(),
  };
}

function openChannel(target: Target, events: ChannelEvents): Channel {
  return target.protocol === 'tcp' ? openTcp(target, events) : openUdp(target, events);
}

function ask(target: Target): Promise<Answer> {
  const timeoutMs = target.timeoutMs ?? defaultTimeoutMs;
  return new Promise((resolve, reject) => {
    const finish = (settle: () => void): void => {
      clearTimeout(timer);
      channel.close();
      settle();
    };
    const timer = setTimeout(
      () => finish(() => reject(new Error(`no answer within ${timeoutMs} ms`))),
      timeoutMs,
    );
    const channel = openChannel(target, {
      opened: () => channel.send(),
      received: (line) => finish(() => resolve(JSON.parse(line) as Answer)),
      failed: (error) => finish(() => reject(error)),
    });
  });
}

const streams = new Map<number, () => Promise<StreamResult>>();

/** @returns after the first answer, so that what follows is about a connection that stood */
function startStream(id: number, target: Target, intervalMs: number): Promise<number> {
  let sent = 0;
  let received = 0;
  let error: string | undefined;
  return new Promise((resolve, reject) => {
    let timer: NodeJS.Timeout | undefined;
    const sendOne = (): void => {
      sent++;
      channel.send();
    };
    const channel = openChannel(target, {
      opened: () => {
        sendOne();
        timer = setInterval(sendOne, intervalMs);
      },
      received: () => {
        received++;
        resolve(id);
      },
      failed: (cause) => {
        error ??= cause.message;
        clearInterval(timer);
        reject(cause);
      },
    });
    streams.set(id, async () => {
      clearInterval(timer);
      const deadline = Date.now() + (target.timeoutMs ?? defaultTimeoutMs);
      while (received < sent && error === undefined && Date.now() < deadline)
        await new Promise((wake) => setTimeout(wake, 5));
      const result = { sent, received, ...(error === undefined ? {} : { error }) };
      channel.close();
      streams.delete(id);
      return result;
    });
  });
}

/** Takes all it gets, and tells each sender how many bytes that were when it has finished. */
async function sink(port: number): Promise<void> {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    let bytes = 0;
    socket.on('error', () => {});
    socket.on('data', (chunk) => {
      bytes += chunk.length;
    });
    socket.on('end', () => socket.end(String(bytes)));
  });
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(port, '::', resolve));
}

/** Sends as fast as it can. @returns megabits per second that arrived */
function flood(address: string, port: number, milliseconds: number): Promise<number> {
  const block = Buffer.alloc(1 << 18);
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: address, allowHalfOpen: true });
    const started = performance.now();
    let answer = '';
    const write = (): void => {
      while (performance.now() - started < milliseconds) if (!socket.write(block)) return;
      socket.removeListener('drain', write);
      socket.end();
    };
    socket.on('connect', write);
    socket.on('drain', write);
    socket.on('error', reject);
    socket.on('data', (chunk) => {
      answer += chunk.toString();
    });
    socket.on('close', () => resolve((Number(answer) * 8) / (performance.now() - started) / 1000));
  });
}

async function serve(id: number, request: ProbeRequest): Promise<unknown> {
  switch (request.kind) {
    case 'listen':
      return await listen(request.port, request.name);
    case 'ask':
      return await ask(request);
    case 'stream':
      return await startStream(id, request, request.intervalMs);
    case 'end-stream':
      return await streams.get(request.stream)!();
    case 'sink':
      return await sink(request.port);
    case 'flood':
      return await flood(request.address, request.port, request.milliseconds);
  }
}

process.stdout.on('error', () => {});
createInterface({ input: process.stdin }).on('line', async (line) => {
  const { id, ...request } = JSON.parse(line) as ProbeRequest & { id: number };
  let reply: ProbeReply;
  try {
    reply = { id, value: (await serve(id, request as ProbeRequest)) ?? null };
  } catch (error) {
    reply = { id, error: (error as Error).message };
  }
  process.stdout.write(`${JSON.stringify(reply)}\n`);
});
