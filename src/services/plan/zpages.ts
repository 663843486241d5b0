/** The pages that Kubernetes' components have for people: https://kubernetes.io/docs/reference/instrumentation/zpages/ */

const NAME = 'twill-proxy';

function head(page: string): string {
  return `
${NAME} ${page}
Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is for debugging purposes only.

`;
}

/** How an answer is written: as text, or as an object of a version in one of the two media types. */
export type Form =
  | 'text'
  | { readonly type: 'application/json' | 'application/yaml'; readonly version: string };

const asText = new Set(['', '*/*', 'text/*', 'text/plain']);

/** What one entry of `Accept` asks for, and how much it is liked. */
function formOf(entry: string, as: string): { form: Form | undefined; quality: number } {
  const [type = '', ...parameters] = entry.split(';').map((text) => text.trim());
  const value = (name: string): string | undefined =>
    parameters.find((text) => text.startsWith(`${name}=`))?.slice(name.length + 1);
  const quality = Number(value('q') ?? 1);
  if (asText.has(type)) return { form: 'text', quality };
  const version = value('v') ?? '';
  const isOurs = value('g') === 'config.k8s.io' && value('as') === as && /^v1(alpha1|beta1)$/.test(version);
  if (!isOurs || (type !== 'application/json' && type !== 'application/yaml'))
    return { form: undefined, quality };
  return { form: { type, version }, quality };
}

/**
 * The form of an answer that `Accept` asks for, as Kubernetes names it there; of several the one that is liked best, or
 * comes first. Undefined where it can be had in none.
 */
export function wantedForm(accept: string, as: string): Form | undefined {
  const wanted = accept.split(',').map((entry) => formOf(entry, as));
  return wanted
    .filter(({ form, quality }) => form !== undefined && quality > 0)
    .sort((a, b) => b.quality - a.quality)[0]?.form;
}

/** What is said where an answer can be had in no form that is asked for: the `Status` of Kubernetes. */
export const notAcceptable = {
  kind: 'Status',
  apiVersion: 'v1',
  metadata: {},
  status: 'Failure',
  message: 'only the following media types are accepted: application/json, application/yaml, text/plain',
  reason: 'NotAcceptable',
  code: 406,
};

export interface Status {
  /** RFC 3339. */
  readonly started: string;
  readonly upSeconds: number;
  readonly nodeVersion: string;
  readonly version: string;
  readonly paths: readonly string[];
}

export function statuszText({ started, upSeconds, nodeVersion, version, paths }: Status): string {
  const two = (value: number): string => String(value).padStart(2, '0');
  const minutes = Math.floor(upSeconds / 60);
  const up = `${Math.floor(minutes / 60)} hr ${two(minutes % 60)} min ${two(Math.floor(upSeconds) % 60)} sec`;
  return `${head('statusz')}Started: ${started}
Up: ${up}
Node version: ${nodeVersion}
Binary version: ${version}
Paths: ${[...paths].sort().join(' ')}
`;
}

export function statuszObject(status: Status, apiVersion: string): object {
  return {
    kind: 'Statusz',
    apiVersion: `config.k8s.io/${apiVersion}`,
    metadata: { name: NAME },
    startTime: status.started,
    uptimeSeconds: Math.floor(status.upSeconds),
    nodeVersion: status.nodeVersion,
    binaryVersion: status.version,
    paths: [...status.paths].sort(),
  };
}

type FlagList = readonly (readonly [name: string, value: string])[];

export function flagzText(flags: FlagList): string {
  return `${head('flagz')}${flags.map(([name, value]) => `${name}=${value}\n`).join('')}`;
}

export function flagzObject(flags: FlagList, apiVersion: string): object {
  return {
    kind: 'Flagz',
    apiVersion: `config.k8s.io/${apiVersion}`,
    metadata: { name: NAME },
    flags: Object.fromEntries(flags),
  };
}
