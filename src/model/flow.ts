/** Transport protocols that Services, host ports and the connection tracking table name. */
export type Protocol = 'TCP' | 'UDP' | 'SCTP';

/** One tracked flow: where the client sent to, and who answers (its reply's source). Addresses are canonical text. */
export interface Flow {
  readonly protocol: Protocol;
  readonly destination: { readonly address: string; readonly port: number };
  readonly backend: { readonly address: string; readonly port: number };
  /** Somebody has answered. */
  readonly replied: boolean;
}
