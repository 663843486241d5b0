import { isoTime, monotonicMs, wallClockMs } from '../process/clock.ts';
import type { HttpAnswer, Routes } from '../process/http.ts';
import { version } from '../process/version.ts';
import {
  flagzObject,
  flagzText,
  type Status,
  statuszObject,
  statuszText,
  structuredVersion,
} from './plan/zpages.ts';
import { asConfiguration, flagList, type ProxySettings } from './settings.ts';

function json(value: object): HttpAnswer {
  return { status: 200, body: `${JSON.stringify(value)}\n`, type: 'application/json' };
}

/**
 * `/configz`, `/flagz` and `/statusz`. The configuration is shown as a file of `--config` has it.
 * @param others paths that are served beside them
 */
export function zpages(settings: ProxySettings, others: readonly string[]): Routes {
  const startedAt = monotonicMs();
  const started = isoTime(wallClockMs());
  const paths = [...others, '/configz', '/flagz', '/statusz'];
  const status = (): Status => ({
    started,
    upSeconds: (monotonicMs() - startedAt) / 1000,
    nodeVersion: process.version,
    version,
    paths,
  });
  const page = (as: string, text: () => string, object: (apiVersion: string) => object): Routes[string] => {
    return ({ accept }) => {
      const asked = structuredVersion(accept, as);
      return asked === undefined ? { status: 200, body: text() } : json(object(asked));
    };
  };
  return {
    '/configz': () => json({ 'kubeproxy.config.k8s.io': asConfiguration(settings) }),
    '/flagz': page(
      'Flagz',
      () => flagzText(flagList(settings)),
      (apiVersion) => flagzObject(flagList(settings), apiVersion),
    ),
    '/statusz': page(
      'Statusz',
      () => statuszText(status()),
      (apiVersion) => statuszObject(status(), apiVersion),
    ),
  };
}
