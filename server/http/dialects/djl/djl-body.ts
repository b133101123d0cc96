/**
 * What DJLServing's clients send as a body, brought to one shape: the LMI or OpenAI object.
 *
 * In      application/json (also when no type is given, or curl's -d has called it a form), multipart/form-data, application/x-www-form-urlencoded, any other type
 * Out     the JSON value; of a form the field `data` (else `inputs`, else the only other one), its other fields beside it; of any
 *         other type {inputs: text}, the whole body
 * Limits  the body limit of the server; form-fields.ts
 * Errors  InvalidInput: not JSON, not a form, not UTF-8
 * Source  DJLServing 0.36: RequestParser (into Input); LMI's input_parser for the dispatch by key
 */
import { isUtf8 } from 'node:buffer';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { type CompletionBody, checkCompletionBody } from '../../../requests/completion-request.js';
import { InvalidInput } from '../../../requests/invalid-input.js';
import type { Checked } from '../../../requests/validation.js';
import { addBodyReader } from '../../bodies/body-reader.js';
import { formFieldsOf } from '../../bodies/form-fields.js';
import { bodyTooDeep, jsonBodyParser } from '../../bodies/json-body.js';
import { ContentBody, TensorBody } from '../../bodies/model-bodies.js';
import { type ChatBody, checkChatBody } from '../openai/chat-request.js';
import { checkEmbeddingBody, type EmbeddingBody } from '../openai/openai-embeddings.js';
import { checkLmiBody, type LmiBody } from './lmi-request.js';

/** Fields of a form that say where it goes, not what it is. */
const TARGET_FIELDS = ['model_name', 'model_version'];

declare module 'fastify' {
  interface FastifyRequest {
    /** Target fields of a form body; empty for any other body. */
    formFields: ReadonlyMap<string, string>;
    /** The body is neither JSON nor a form. */
    isWholeText: boolean;
  }
}

/** A prediction by its kind. */
export type DjlBody =
  | { kind: 'lmi'; body: LmiBody }
  | { kind: 'chat'; body: ChatBody }
  | { kind: 'completion'; body: CompletionBody }
  | { kind: 'embedding'; body: EmbeddingBody }
  | { kind: 'tensors'; body: TensorBody }
  | { kind: 'content'; body: ContentBody };

/** By key, as LMI's handler does: messages, prompt, OpenAI's input, else inputs. */
export function checkDjlBody(body: unknown): Checked<DjlBody> {
  if (body instanceof TensorBody) return { value: { kind: 'tensors', body } };
  if (body instanceof ContentBody) return { value: { kind: 'content', body } };
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

/** @param isContent its model reads the body by itself, whatever it is */
export function addDjlBodyParsers(
  app: FastifyInstance,
  isContent: (request: FastifyRequest) => boolean,
): void {
  const parseJson = jsonBodyParser(app);
  app.decorateRequest('formFields');
  app.decorateRequest('isWholeText', false);
  app.addHook('onRequest', async (request) => {
    request.formFields = new Map();
  });
  addBodyReader(app, {
    isContent,
    plain: (request, { bytes, contentType, type }, done) => {
      const isJson = type === '' || type === 'application/json' || type.endsWith('+json');
      if (isJson || isJsonAsForm(type, bytes)) {
        parseJson(request, bytes.toString('utf8'), done);
      } else if (type === 'multipart/form-data' || type === 'application/x-www-form-urlencoded') {
        parseForm(request, bytes, contentType).then((body) => done(null, body), done);
      } else if (isUtf8(bytes)) {
        request.isWholeText = true;
        done(null, { inputs: bytes.toString('utf8') });
      } else {
        done(new InvalidInput(`A body of ${type.slice(0, 80)} must be text in UTF-8`, null));
      }
    },
  });
}

/** curl's -d calls whatever it sends a form; a form's names are encoded, and begin with no brace. */
const isJsonAsForm = (type: string, bytes: Buffer): boolean =>
  type === 'application/x-www-form-urlencoded' && bytes[0] === '{'.charCodeAt(0);

async function parseForm(request: FastifyRequest, bytes: Buffer, contentType: string): Promise<unknown> {
  const fields = await formFieldsOf(bytes, contentType);
  request.formFields = new Map([...fields].filter(([name]) => TARGET_FIELDS.includes(name)));
  const rest = [...fields].filter(([name]) => !TARGET_FIELDS.includes(name));
  const payload = fields.get('data') ?? fields.get('inputs') ?? (rest.length === 1 ? rest[0]![1] : undefined);
  if (payload === undefined) return Object.fromEntries(rest);
  return payload.trimStart().startsWith('{') ? parsedOrText(payload) : { inputs: payload };
}

function parsedOrText(payload: string): unknown {
  // Before it is parsed: what it would take is what is bounded.
  const error = bodyTooDeep(payload);
  let value: unknown;
  try {
    if (error === null) value = JSON.parse(payload) as unknown;
  } catch {
    return { inputs: payload };
  }
  if (error !== null) throw error;
  return value;
}
