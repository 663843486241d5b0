import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { runChecked } from '../../src/kernel/process.ts';

export interface ImageOptions {
  readonly name: string;
  /** Its only layer. */
  readonly rootfs: string;
  readonly entrypoint: readonly string[];
  readonly environment: readonly string[];
}

/** Writes an image as `ctr images import` takes it (OCI image layout in a tar file). @returns the file's path */
export async function writeImage(directory: string, image: ImageOptions): Promise<string> {
  const layout = join(directory, 'image');
  const blobs = join(layout, 'blobs/sha256');
  mkdirSync(blobs, { recursive: true });
  const blob = (content: Buffer | string, mediaType: string): object => {
    const hash = createHash('sha256').update(content).digest('hex');
    writeFileSync(join(blobs, hash), content);
    return { mediaType, digest: `sha256:${hash}`, size: Buffer.byteLength(content) };
  };
  const document = (content: object, kind: string): object =>
    blob(JSON.stringify(content), `application/vnd.oci.image.${kind}.v1+json`);

  const layerFile = join(directory, 'layer.tar');
  await runChecked('tar', ['-C', image.rootfs, '-cf', layerFile, '.']);
  const layer = blob(readFileSync(layerFile), 'application/vnd.oci.image.layer.v1.tar') as { digest: string };
  const architecture = process.arch === 'x64' ? 'amd64' : process.arch;
  const config = document(
    {
      architecture,
      os: 'linux',
      config: { Entrypoint: image.entrypoint, Env: image.environment },
      rootfs: { type: 'layers', diff_ids: [layer.digest] },
    },
    'config',
  );
  const manifest = document({ schemaVersion: 2, config, layers: [layer] }, 'manifest');
  const annotations = { 'io.containerd.image.name': image.name };
  const index = { schemaVersion: 2, manifests: [{ ...manifest, annotations }] };
  writeFileSync(join(layout, 'index.json'), JSON.stringify(index));
  writeFileSync(join(layout, 'oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }));
  const file = join(directory, 'image.tar');
  await runChecked('tar', ['-C', layout, '-cf', file, '.']);
  return file;
}
