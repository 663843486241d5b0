import type { Flag } from '../../model/flag.ts';

/** A flag of `twill proxy`, and its place in kube-proxy's configuration file. */
export interface ProxyFlag extends Flag {
  /** Path in a KubeProxyConfiguration. */
  readonly field?: string;
  /** In the file, 0 is a value of its own, and only `null` and what is not there mean the standard. */
  readonly zeroCounts?: true;
  /** Counts beside `--config` too, before what the file says. kube-proxy's others are ignored then. */
  readonly beside?: true;
  /** Why it is accepted and changes nothing. */
  readonly idle?: string;
}
