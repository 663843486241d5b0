/** What one look before (or after) an installation came to. */
export interface PreflightCheck {
  readonly area: 'rights' | 'kernel' | 'settings' | 'tools' | 'network' | 'neighbours' | 'node';
  readonly name: string;
  readonly state: 'ok' | 'warning' | 'failed';
  readonly detail: string;
  /** What to do; undefined where all is well. */
  readonly advice: string | undefined;
}

/** What `twill preflight -o json` prints. */
export interface PreflightAnswer {
  readonly version: 1;
  readonly checks: readonly PreflightCheck[];
  readonly failed: number;
  readonly warnings: number;
}

type Area = PreflightCheck['area'];

export const good = (area: Area, name: string, detail: string): PreflightCheck => ({
  area,
  name,
  state: 'ok',
  detail,
  advice: undefined,
});

export const poor = (area: Area, name: string, detail: string, advice: string): PreflightCheck => ({
  area,
  name,
  state: 'warning',
  detail,
  advice,
});

export const bad = (area: Area, name: string, detail: string, advice: string): PreflightCheck => ({
  area,
  name,
  state: 'failed',
  detail,
  advice,
});

/** Is at least as many, of which a name and a sysctl say how to have more. */
export function limitCheck(
  name: string,
  sysctl: string,
  value: number | undefined,
  least: number,
  why: string,
): PreflightCheck[] {
  if (value === undefined || Number.isNaN(value)) return [];
  if (value >= least) return [good('settings', name, `${sysctl} is ${value}`)];
  return [
    poor(
      'settings',
      name,
      `${sysctl} is ${value}: ${why}`,
      `sysctl -w ${sysctl}=${least}, and the same in /etc/sysctl.d/`,
    ),
  ];
}

export function preflightAnswer(checks: readonly PreflightCheck[]): PreflightAnswer {
  const count = (wanted: PreflightCheck['state']): number =>
    checks.filter(({ state }) => state === wanted).length;
  return { version: 1, checks, failed: count('failed'), warnings: count('warning') };
}
