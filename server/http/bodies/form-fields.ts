/**
 * The fields of a form, counted as they are read.
 *
 * In      the bytes of a body of multipart/form-data or application/x-www-form-urlencoded, its Content-Type
 * Out     name and text of each field; of those of one name the last. A file is the text in it (formFieldsOf) or its bytes (formPartsOf)
 * Limits  MAX_FORM_FIELDS, files among them; MAX_FIELD_NAME_BYTES; reading ends one slice after a limit is passed
 * Errors  InvalidInput: not a form, too many fields, a name too long
 *
 * @fastify/busboy reads by pieces and stops at limits; the platform's Response.formData() makes all fields before one can be counted
 * (66 MB of `a&a&…`: seconds, and gigabytes).
 */
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { Busboy } from '@fastify/busboy';
import { InvalidInput } from '../../requests/invalid-input.js';

export const MAX_FORM_FIELDS = 64;
export const MAX_FIELD_NAME_BYTES = 1024;
const MAX_PART_HEADERS = 32;
const SLICE_BYTES = 65_536;

/** One field of a form. */
export interface FormPart {
  bytes: Buffer;
  /** A file's; null: a field of text. */
  contentType: string | null;
}

export async function formFieldsOf(bytes: Buffer, contentType: string): Promise<Map<string, string>> {
  const parts = await formPartsOf(bytes, contentType);
  return new Map([...parts].map(([name, part]) => [name, part.bytes.toString('utf8')]));
}

export async function formPartsOf(bytes: Buffer, contentType: string): Promise<Map<string, FormPart>> {
  const fields = new Map<string, FormPart>();
  let count = 0;
  let broken: InvalidInput | null = null;
  const put = (name: string | undefined, part: FormPart, isNameCut: boolean): void => {
    count += 1;
    if (count > MAX_FORM_FIELDS) {
      broken ??= new InvalidInput(`A form may have at most ${MAX_FORM_FIELDS} fields`, null);
    } else if (isNameCut) {
      const limit = `at most ${MAX_FIELD_NAME_BYTES} bytes`;
      broken ??= new InvalidInput(`The name of a field of a form may have ${limit}`, null);
    } else fields.set(name ?? '', part);
  };
  function* slices(): Generator<Buffer> {
    for (let at = 0; at < bytes.length && broken === null; at += SLICE_BYTES) {
      yield bytes.subarray(at, at + SLICE_BYTES);
    }
  }
  try {
    const parser = new Busboy({
      headers: { 'content-type': contentType },
      limits: {
        fields: MAX_FORM_FIELDS + 1,
        parts: MAX_FORM_FIELDS + 1,
        fieldNameSize: MAX_FIELD_NAME_BYTES,
        fieldSize: bytes.length + 1,
        fileSize: bytes.length + 1,
        headerPairs: MAX_PART_HEADERS,
      },
    });
    parser.on('field', (name, text, isNameCut) =>
      put(name, { bytes: Buffer.from(text, 'utf8'), contentType: null }, isNameCut),
    );
    parser.on('file', (name, file, _fileName, _encoding, type) => {
      const pieces: Buffer[] = [];
      file.on('data', (piece: Buffer) => pieces.push(piece));
      file.once('end', () => put(name, { bytes: Buffer.concat(pieces), contentType: type }, false));
      // Said once more by the parser itself.
      file.once('error', () => undefined);
    });
    await pipeline(Readable.from(slices()), parser);
  } catch {
    broken ??= new InvalidInput('The request body is not a form as its Content-Type says', null);
  }
  if (broken !== null) throw broken;
  return fields;
}
