import { join } from 'node:path';
import { TwillError } from '../../model/error.ts';
import { namesIn } from '../../process/files.ts';
import { readRegularFile } from '../../process/regular-file.ts';
import type { CniCall } from '../plan/protocol.ts';
import type { CniRequest } from './call.ts';
import { queueDirectory } from './deletions.ts';

function isAbout(path: string, { containerId, ifname }: CniRequest): boolean {
  try {
    const { environment } = JSON.parse(readRegularFile(path)) as CniCall;
    return environment.CNI_CONTAINERID === containerId && environment.CNI_IFNAME === ifname;
  } catch {
    return false; // gone meanwhile, or not a call
  }
}

/** Whether a deletion of the attachment waits on the queue. */
function isQueued(socketPath: string, request: CniRequest): boolean {
  const directory = queueDirectory(socketPath);
  return namesIn(directory).some((name) => name.endsWith('.json') && isAbout(join(directory, name), request));
}

/**
 * Has a deletion of an attachment that is queued carried out before the attachment is added again. So what is found on the
 * queue is always the younger of the two, and needs no time of day to tell: a runtime adds again only when its DEL has
 * returned, which is when the file stands.
 * @throws TwillError `unavailable` when it cannot be carried out now
 */
export async function settleDeletion(
  socketPath: string,
  request: CniRequest,
  drain: () => Promise<void>,
): Promise<void> {
  if (!isQueued(socketPath, request)) return;
  await drain();
  if (!isQueued(socketPath, request)) return;
  const { containerId, ifname } = request;
  throw new TwillError('unavailable', `an earlier deletion of ${ifname} of ${containerId} is not done yet`);
}
