/** Where the .proto files are: beside the sources, which the compiled code reaches from dist/proto/. */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

export function protoFile(fileName: string): string {
  const besideThis = fileURLToPath(new URL(fileName, import.meta.url));
  return existsSync(besideThis)
    ? besideThis
    : fileURLToPath(new URL(`../../proto/${fileName}`, import.meta.url));
}
