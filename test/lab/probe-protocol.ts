/** What a probe process inside a namespace can be asked to do. Every request is one line of JSON, as is its answer. */
export type ProbeRequest =
  | { readonly kind: 'listen'; readonly port: number; readonly name: string }
  | ({ readonly kind: 'ask' } & Target)
  | ({ readonly kind: 'stream'; readonly intervalMs: number } & Target)
  | { readonly kind: 'end-stream'; readonly stream: number }
  | { readonly kind: 'sink'; readonly port: number }
  | {
      readonly kind: 'flood';
      readonly address: string;
      readonly port: number;
      readonly milliseconds: number;
    };

export interface Target {
  readonly protocol: 'tcp' | 'udp';
  readonly address: string;
  readonly port: number;
  /** Default 10,000 ms: where an answer is due, a busy machine may take its time. */
  readonly timeoutMs?: number;
}

/** What a listening probe answers to one line or datagram. */
export interface Answer {
  /** The name given to `listen`. */
  readonly server: string;
  /** The address the server saw the request come from. */
  readonly client: string;
}

/** What became of a stream of requests, one each interval, over one connection or from one UDP port. */
export interface StreamResult {
  readonly sent: number;
  readonly received: number;
  /** Why the connection broke; undefined while it stands. */
  readonly error?: string;
}

export type ProbeReply = { readonly id: number } & ({ readonly value: unknown } | { readonly error: string });
