/** One line of /readyz. A failed check makes the agent not ready; a warning does not. */
export interface Check {
  readonly name: string;
  readonly state: 'ok' | 'failed' | 'warning';
  readonly detail: string;
}
