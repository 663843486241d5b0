/** The resolver's settings, as results of ADD have them. */
export type Dns = Readonly<Record<string, unknown>>;

/** What resolv.conf(5) says, as host-local reads it: the last `domain` and `search` count, all `nameserver` and `options`. */
export function parseResolvConf(text: string): Dns {
  const nameservers: string[] = [];
  const options: string[] = [];
  let search: string[] = [];
  let domain: string | undefined;
  for (const line of text.split('\n')) {
    const [keyword, ...values] = line.trim().split(/\s+/);
    if (keyword === 'nameserver' && values[0] !== undefined) nameservers.push(values[0]);
    else if (keyword === 'domain') domain = values[0];
    else if (keyword === 'search') search = values;
    else if (keyword === 'options') options.push(...values);
  }
  return {
    ...(nameservers.length > 0 ? { nameservers } : {}),
    ...(domain === undefined ? {} : { domain }),
    ...(search.length > 0 ? { search } : {}),
    ...(options.length > 0 ? { options } : {}),
  };
}
