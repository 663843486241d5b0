import { existsSync, mkdirSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';
import type { Log } from '../../process/log.ts';
import { listenOn } from '../../process/unix-server.ts';

/** Calls at a time: each holds a descriptor, which the rest of the process needs. A runtime has some dozen. */
const MAX_CONNECTIONS = 500;

/** Listens on the CNI socket, also after somebody has removed it: the runtime's calls would come to nobody. */
export class CniListener {
  private readonly path: string;
  private readonly serve: (socket: Socket) => void;
  private readonly log: Log;
  private server: Server | undefined;

  constructor(path: string, serve: (socket: Socket) => void, log: Log) {
    this.path = path;
    this.serve = serve;
    this.log = log;
  }

  /** @throws TwillError `unavailable` */
  async listen(): Promise<void> {
    mkdirSync(dirname(this.path), { recursive: true, mode: 0o755 });
    const server = createServer(this.serve);
    server.maxConnections = MAX_CONNECTIONS;
    this.server = server;
    await listenOn(server, this.path);
  }

  /** Looks whether the socket is there, and makes it again. Calls under way keep their connections. */
  async look(): Promise<void> {
    if (this.server === undefined || existsSync(this.path)) return;
    this.log.warn({ socket: this.path }, 'somebody has removed the socket of the CNI plugin: made again');
    // Its end removes the path: the next one must not stand there yet.
    this.server.close();
    await this.listen();
  }

  close(): void {
    this.server?.close();
    this.server = undefined;
  }
}
