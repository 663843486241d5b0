import { isoTime, monotonicMs, wallClockMs } from '../process/clock.ts';
import { forGoToRead } from '../process/go-yaml.ts';
import type { HttpAnswer, Routes } from '../process/http.ts';
import { version } from '../process/version.ts';
import {
  type Form,
  flagzObject,
  flagzText,
  notAcceptable,
  type Status,
  statuszObject,
  statuszText,
  wantedForm,
} from './plan/zpages.ts';
import { asConfiguration, flagList, type ProxySettings } from './settings.ts';

function json(value: object, status = 200): HttpAnswer {
  return { status, body: `${JSON.stringify(value)}\n`, type: 'application/json' };
}

async function structured(
  { type, version: apiVersion }: Exclude<Form, 'text'>,
  as: string,
  value: object,
): Promise<HttpAnswer> {
  const kind = `${type};g=config.k8s.io;v=${apiVersion};as=${as}`;
  if (type === 'application/json') return { ...json(value), type: kind };
  const { stringify } = await import('yaml');
  return { status: 200, body: stringify(value, forGoToRead), type: kind };
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
      const form = wantedForm(accept, as);
      if (form === undefined) return json(notAcceptable, 406);
      return form === 'text' ? { status: 200, body: text() } : structured(form, as, object(form.version));
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
