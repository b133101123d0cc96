/**
 * What DJLServing's clients send as a body, brought to one shape: the LMI or OpenAI object.
 *
 * In      application/json (also when no type is given), text/plain, multipart/form-data, application/x-www-form-urlencoded
 * Out     the JSON value; {inputs: text} of plain text; of a form the field `data` (else `inputs`, else the only other one), its
 *         other fields beside it
 * Limits  the body limit of the server; MAX_FORM_FIELDS
 * Errors  InvalidInput: not JSON, not a form, another content type
 * Source  reference serving-apis §1.4 (parsing into Input), §3.1 (dispatch by key)
 */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { InvalidInput } from './errors.js';
import { bodyTooDeep, jsonBodyParser } from './json-body.js';
import { checkLmiBody, type LmiBody } from './lmi-request.js';
import { checkEmbeddingBody, type EmbeddingBody } from './openai-embeddings.js';
import { type ChatBody, type CompletionBody, checkChatBody, checkCompletionBody } from './openai-request.js';
import { TensorBody } from './tensor-answer.js';
import type { Checked } from './validation.js';

const MAX_FORM_FIELDS = 64;
/** Fields of a form that say where it goes, not what it is. */
const TARGET_FIELDS = ['model_name', 'model_version'];

declare module 'fastify' {
  interface FastifyRequest {
    /** Target fields of a form body; empty for any other body. */
    formFields: ReadonlyMap<string, string>;
  }
}

/** A prediction by its kind. */
export type DjlBody =
  | { kind: 'lmi'; body: LmiBody }
  | { kind: 'chat'; body: ChatBody }
  | { kind: 'completion'; body: CompletionBody }
  | { kind: 'embedding'; body: EmbeddingBody }
  | { kind: 'tensors'; body: TensorBody };

/** By key, as LMI's handler does: messages, prompt, OpenAI's input, else inputs. */
export function checkDjlBody(body: unknown): Checked<DjlBody> {
  if (body instanceof TensorBody) return { value: { kind: 'tensors', body } };
  const has = (field: string) =>
    typeof body === 'object' && body !== null && Object.hasOwn(body, field) && !Array.isArray(body);
  if (has('inputs')) return as('lmi', checkLmiBody(body));
  if (has('messages')) return as('chat', checkChatBody(body));
  if (has('prompt')) return as('completion', checkCompletionBody(body));
  if (has('input')) return as('embedding', checkEmbeddingBody(body));
  return as('lmi', checkLmiBody(body));
}

function as<K extends DjlBody['kind'], B>(kind: K, checked: Checked<B>): Checked<{ kind: K; body: B }> {
  return 'error' in checked ? checked : { value: { kind, body: checked.value } };
}

export function addDjlBodyParsers(app: FastifyInstance): void {
  const parseJson = jsonBodyParser(app);
  app.decorateRequest('formFields');
  app.addHook('onRequest', async (request) => {
    request.formFields = new Map();
  });
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (request, payload, done) => {
    const bytes = payload as Buffer;
    const given = request.headers['content-type'] ?? '';
    const type = given.split(';')[0]!.trim().toLowerCase();
    if (type === '' || type === 'application/json' || type.endsWith('+json')) {
      parseJson(request, bytes.toString('utf8'), done);
    } else if (type === 'text/plain') {
      done(null, { inputs: bytes.toString('utf8') });
    } else if (type === 'multipart/form-data' || type === 'application/x-www-form-urlencoded') {
      parseForm(request, bytes, given).then((body) => done(null, body), done);
    } else {
      const served = 'application/json, text/plain, multipart/form-data, application/x-www-form-urlencoded';
      done(new InvalidInput(`Content-Type must be one of ${served}, got ${type.slice(0, 80)}`, null));
    }
  });
}

async function parseForm(request: FastifyRequest, bytes: Buffer, contentType: string): Promise<unknown> {
  const fields = new Map<string, string>();
  let form: FormData;
  try {
    // The platform's own parser of both kinds of forms.
    form = await new Response(new Uint8Array(bytes), { headers: { 'content-type': contentType } }).formData();
  } catch {
    throw new InvalidInput('The request body is not a form as its Content-Type says', null);
  }
  for (const [name, value] of form as unknown as Iterable<[string, string | { text(): Promise<string> }]>) {
    if (fields.size >= MAX_FORM_FIELDS) {
      throw new InvalidInput(`A form may have at most ${MAX_FORM_FIELDS} fields`, null);
    }
    fields.set(name, typeof value === 'string' ? value : await value.text());
  }
  request.formFields = new Map([...fields].filter(([name]) => TARGET_FIELDS.includes(name)));
  const rest = [...fields].filter(([name]) => !TARGET_FIELDS.includes(name));
  const payload = fields.get('data') ?? fields.get('inputs') ?? (rest.length === 1 ? rest[0]![1] : undefined);
  if (payload === undefined) return Object.fromEntries(rest);
  return payload.trimStart().startsWith('{') ? parsedOrText(payload) : { inputs: payload };
}

function parsedOrText(payload: string): unknown {
  let value: unknown;
  try {
    value = JSON.parse(payload) as unknown;
  } catch {
    return { inputs: payload };
  }
  const error = bodyTooDeep(payload);
  if (error !== null) throw error;
  return value;
}
