/** The pages that Kubernetes' components have for people: https://kubernetes.io/docs/reference/instrumentation/zpages/ */

const NAME = 'twill-proxy';

function head(page: string): string {
  return `
${NAME} ${page}
Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is for debugging purposes only.

`;
}

/** The version of a structured answer that is asked for, as Kubernetes names it in `Accept`; undefined for text. */
export function structuredVersion(accept: string, as: string): string | undefined {
  for (const part of accept.split(',')) {
    const [type, ...parameters] = part.split(';').map((text) => text.trim());
    if (type !== 'application/json' || !parameters.includes(`as=${as}`)) continue;
    if (!parameters.includes('g=config.k8s.io')) continue;
    const version = parameters.find((text) => /^v=(v1alpha1|v1beta1)$/.test(text));
    if (version !== undefined) return version.slice(2);
  }
  return undefined;
}

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
