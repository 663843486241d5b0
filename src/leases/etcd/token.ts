import type { Etcd3 } from 'etcd3';
import { withoutLineEnd } from '../../model/text.ts';
import { readFileIfPresent } from '../../process/files.ts';
import type { EtcdOptions, Interceptor } from './client.ts';
import { asksForNobody, isStaleToken } from './errors.ts';

/** Where etcd asks for nobody's name. */
const NONE = '';

/**
 * The token that etcd gives for --etcd-username, and that goes with each request. The library would ask the first member
 * for it, whether that lives or not, keep one that any change of a user has made worthless (signed tokens), and ask
 * again and again, without a pause, for one that a member with another clock takes for old.
 */
export class EtcdToken {
  private readonly options: EtcdOptions;
  private token: string | undefined;
  private renewal: Promise<void> | undefined;

  constructor(options: EtcdOptions) {
    this.options = options;
  }

  /** Puts the token with a request. */
  readonly interceptor: Interceptor = (options, nextCall) => {
    const call = nextCall(options);
    const start = call.start.bind(call);
    call.start = (metadata, listener) => {
      if (this.token) metadata.set('token', this.token);
      start(metadata, {
        onReceiveMetadata: (received) => listener?.onReceiveMetadata?.(received),
        onReceiveMessage: (message) => listener?.onReceiveMessage?.(message),
        onReceiveStatus: (status) => {
          // The library repeats the request then, for as long as it has this answer: the next one is that none was given.
          if (status.details.includes('invalid auth token')) this.token = undefined;
          listener?.onReceiveStatus?.(status);
        },
      });
    };
    return call as ReturnType<Interceptor>;
  };

  /** Makes a request with a token, and again with a new one where etcd does not take it. @throws what the library throws */
  async with<T>(client: Etcd3, request: (client: Etcd3) => Promise<T>): Promise<T> {
    if (this.options.username === undefined) return await request(client);
    if (this.token === undefined) await this.renew(client, undefined);
    const used = this.token;
    try {
      return await request(client);
    } catch (error) {
      if (!isStaleToken(error)) throw error;
    }
    await this.renew(client, used);
    return await request(client);
  }

  /** @param used a token that is of no use; another request may have got a new one since */
  private async renew(client: Etcd3, used: string | undefined): Promise<void> {
    if (this.token !== used && this.token !== undefined) return;
    this.renewal ??= this.authenticate(client).finally(() => {
      this.renewal = undefined;
    });
    await this.renewal;
  }

  /** The password in its file, which may be another by now. */
  private renewed(): string | undefined {
    const { passwordFile } = this.options;
    const text = passwordFile === undefined ? undefined : readFileIfPresent(passwordFile);
    return text === undefined ? undefined : withoutLineEnd(text);
  }

  private async authenticate(client: Etcd3): Promise<void> {
    try {
      const { username: name = '', password = '' } = this.options;
      this.token = (await client.auth.authenticate({ name, password: this.renewed() ?? password })).token;
    } catch (error) {
      // Credentials are given out before etcd asks for them.
      if (!asksForNobody(error)) throw error;
      this.token = NONE;
    }
  }
}
