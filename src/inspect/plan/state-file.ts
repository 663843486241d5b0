/** Where agent and proxy write down what they work by, for whoever looks while they do not answer: beside the socket. */
export function stateFile(socketPath: string, of: 'agent' | 'proxy'): string {
  return `${socketPath.slice(0, socketPath.lastIndexOf('/') + 1)}${of}-state.json`;
}
