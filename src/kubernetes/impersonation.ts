import { TwillError } from '../model/error.ts';

/** The fields of a kubeconfig's user that make requests count as somebody else's. */
export interface Impersonation {
  readonly as?: string;
  readonly 'as-uid'?: string;
  readonly 'as-groups'?: readonly string[] | null;
  readonly 'as-user-extra'?: Readonly<Record<string, readonly string[] | null>> | null;
}

/** A key as a header's name can have it (client-go's headerKeyEscape): bytes of no token, and %, in hexadecimal. */
function escapeKey(key: string): string {
  return [...Buffer.from(key)]
    .map((byte) => {
      const char = String.fromCharCode(byte);
      return /[!#$&'*+.0-9A-Z^_`a-z|~-]/.test(char)
        ? char
        : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
    })
    .join('');
}

/**
 * Headers of every request, as client-go's impersonating transport sets them; none without `as`.
 * @throws TwillError `invalid` when there is something to be but nobody to be it, or what no header can have
 */
export function impersonationHeaders(user: string, fields: Impersonation): Record<string, string | string[]> {
  const { as, 'as-uid': uid } = fields;
  const groups = fields['as-groups'] ?? [];
  const extra = Object.entries(fields['as-user-extra'] ?? {});
  if (!as) {
    if (!uid && groups.length === 0 && extra.length === 0) return {};
    throw new TwillError('invalid', `user '${user}': as-uid, as-groups and as-user-extra need as`);
  }
  const headers: Record<string, string | string[]> = { 'Impersonate-User': String(as) };
  if (uid) headers['Impersonate-Uid'] = String(uid);
  if (groups.length > 0) headers['Impersonate-Group'] = groups.map(String);
  for (const [key, values] of extra) {
    if (values?.length) headers[`Impersonate-Extra-${escapeKey(key)}`] = values.map(String);
  }
  const texts = Object.values(headers).flat();
  if (texts.some((text) => /[^\t\x20-\x7e\x80-\xff]/.test(text))) {
    throw new TwillError(
      'invalid',
      `user '${user}': as and its companions have characters no header can have`,
    );
  }
  return headers;
}
