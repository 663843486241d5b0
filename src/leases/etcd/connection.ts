import { isDeepStrictEqual } from 'node:util';
import type { Etcd3 } from 'etcd3';
import { type Certificates, type EtcdOptions, openEtcd, readCertificates } from './client.ts';
import { etcdError } from './errors.ts';
import { EtcdToken } from './token.ts';

/** The connections to etcd's members, which can be left for new ones. */
export class EtcdConnection {
  private readonly options: EtcdOptions;
  private readonly token: EtcdToken;
  private client: Etcd3;
  private certificates: Certificates;

  /** @throws TwillError `invalid` when a credential file cannot be read */
  constructor(options: EtcdOptions) {
    this.options = options;
    this.token = new EtcdToken(options);
    this.certificates = readCertificates(options);
    this.client = this.open();
  }

  private open(): Etcd3 {
    return openEtcd(this.options, this.certificates, [this.token.interceptor]);
  }

  /**
   * Leaves the connections for new ones, with the certificates as the files have them now: after a change of this node's
   * address the old ones are dead without a word.
   */
  reconnect(): void {
    this.certificates = this.currentCertificates();
    const old = this.client;
    this.client = this.open();
    old.close();
  }

  /** True when the certificates were renewed since the connections were opened. */
  certificatesChanged(): boolean {
    return !isDeepStrictEqual(this.currentCertificates(), this.certificates);
  }

  /** While files are missing or half replaced those of before are used. */
  private currentCertificates(): Certificates {
    try {
      return readCertificates(this.options);
    } catch {
      return this.certificates;
    }
  }

  /**
   * Makes a request.
   * @param what the request is for, for the error
   * @throws TwillError `unavailable`, `permission`, `not-found`
   */
  async call<T>(what: string, request: (client: Etcd3) => Promise<T>): Promise<T> {
    try {
      return await this.token.with(this.client, request);
    } catch (cause) {
      throw etcdError(what, this.options.endpoints, cause);
    }
  }

  close(): void {
    this.client.close();
  }
}
