import type { Lab } from './lab.ts';

export interface ApiRequest {
  readonly url: string;
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
}

export interface ApiResponse {
  readonly status: number;
  readonly text: string;
  /** What kubectl would show: a field that is not known, an interface that is to go. */
  readonly warning: string | null;
}

const script = `
  const answers = [];
  for (const { url, ...init } of JSON.parse(require('fs').readFileSync(0, 'utf8'))) {
    const response = await fetch(url, init);
    const { status, headers } = response;
    answers.push({ status, text: await response.text(), warning: headers.get('warning') });
  }
  console.log(JSON.stringify(answers));`;

/** Sends requests one after the other, by one process in the lab's underlay, where APIs listen. */
export async function kubeRequests(
  lab: Lab,
  requests: readonly ApiRequest[],
  env: NodeJS.ProcessEnv = {},
): Promise<ApiResponse[]> {
  const output = await lab.underlay.exec(process.execPath, ['-e', `(async () => {${script}})()`], {
    env: { ...process.env, ...env },
    input: JSON.stringify(requests),
  });
  return JSON.parse(output) as ApiResponse[];
}

export async function kubeRequest(
  lab: Lab,
  request: ApiRequest,
  env: NodeJS.ProcessEnv = {},
): Promise<ApiResponse> {
  const [answer] = await kubeRequests(lab, [request], env);
  return answer!;
}
