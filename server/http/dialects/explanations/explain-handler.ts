/**
 * Which words of a text, or parts of whatever else its handler can leave parts out of (image_classifier: regions of an image), a number
 * of a handler's (or a pipeline's) answer comes from.
 *
 * In      a plain text, JSON with a text in `text`, `data` or `inputs`, any bytes; `target`, a key of the answer (keys inside each other
 *         by dots; default: its largest number)
 * Out     words, importances, in TorchServe's shape; of a handler that names features (requests/explained.ts) their shape; of one that
 *         explains itself (explainHandle, or any whose answer to the header explain: True has the header x-explained) what it says
 * Limits  MAX_WORDS; MAX_FEATURES
 * Errors  BAD_REQUEST
 */
import { ServingError } from '../../../../proto/errors.js';
import {
  EXPLAINED_HEADER,
  FEATURES_HEADER,
  KEPT_HEADER,
  TARGET_HEADER,
} from '../../../requests/explained.js';
import type { ContentPart } from '../../../requests/invoke-request.js';
import type { Target } from '../../../requests/target.js';
import { allOf } from '../../answers/answer.js';
import { answerHandler } from '../../answers/handler-answer.js';
import { ContentBody } from '../../bodies/model-bodies.js';
import type { HttpContext } from '../../http-context.js';
import { type ExplainOptions, explainMasked, toldOf } from './explain-options.js';

const MAX_WORDS = 512;
const MAX_FEATURES = 4096;
const TEXT_FIELDS = ['text', 'data', 'inputs'];

/** One that is neither JSON nor a text. */
export class BytesBody {
  readonly bytes: Buffer;
  readonly contentType: string;

  constructor(bytes: Buffer, contentType: string) {
    this.bytes = bytes;
    this.contentType = contentType;
  }
}

export async function explainHandler(
  context: Pick<HttpContext, 'service'>,
  body: unknown,
  properties: Readonly<Record<string, string>>,
  target: Target,
  options: ExplainOptions,
  client: AbortController,
): Promise<unknown> {
  const askAny = async (content: ContentPart, more: Readonly<Record<string, string>>) => {
    const asked = new ContentBody([content]);
    const answer = await answerHandler(context, asked, { ...properties, ...more }, target, client);
    if (answer.kind !== 'content') throw new Error('a handler answers with content');
    const { chunks, headers, status } = await answer.make();
    const text = (await allOf(chunks)).toString('utf8');
    if (status >= 400) throw bad(text.slice(0, 500));
    return { text, isExplained: headers[EXPLAINED_HEADER] !== undefined, features: headers[FEATURES_HEADER] };
  };
  const found = textOf(body);
  const own = await askAny(contentOf(body), { explain: 'True' }).catch((error: unknown) => {
    // It cannot read it either.
    throw found === null ? noText(error) : error;
  });
  if (own.isExplained) return parsed(own.text) ?? own.text;
  if (options.method === 'integrated_gradients')
    throw bad('A handler has no gradients: method=shapley or occlusion');
  if (own.features !== undefined) {
    const asked = (kept: string, key: string) =>
      askAny(contentOf(body), { explain: 'False', [KEPT_HEADER]: kept, [TARGET_HEADER]: key });
    return explainFeatures(own.features, numbersOf(own.text), asked, options);
  }
  if (found === null) throw noText();
  const { text, withText } = found;
  const words = text.split(/\s+/u).filter((word) => word !== '');
  if (words.length === 0 || words.length > MAX_WORDS)
    throw bad(`1 to ${MAX_WORDS} words are explained, got ${words.length}`);
  const ask = async (given: string): Promise<unknown> =>
    numbersOf((await askAny(withText(given), { explain: 'False' })).text);
  const whole = await ask(words.join(' '));
  const key = options.target ?? largestKey(whole);
  const score = async (kept: readonly boolean[]): Promise<number> =>
    numberAt(await ask(words.filter((_, at) => kept[at]).join(' ')), key);
  numberAt(whole, key);
  const told = await explainMasked(words.length, score, options);
  return { words, target: key, ...toldOf(options.method ?? 'shapley', told) };
}

/** @param whole the answer to the whole request @param ask for its features by their marks */
async function explainFeatures(
  features: string,
  whole: unknown,
  ask: (kept: string, key: string) => Promise<{ text: string }>,
  options: ExplainOptions,
): Promise<unknown> {
  const shape = features.split(',').map(Number);
  const count = shape.reduce((product, axis) => product * axis, 1);
  if (!Number.isInteger(count) || count < 1 || count > MAX_FEATURES)
    throw bad(`The handler names ${features.slice(0, 80)} features, of 1 to ${MAX_FEATURES}`);
  const key = options.target ?? largestKey(whole);
  const score = async (kept: readonly boolean[]): Promise<number> =>
    numberAt(numbersOf((await ask(kept.map(Number).join(''), key)).text), key);
  const told = await explainMasked(count, score, options);
  return { shape, target: key, ...toldOf(options.method ?? 'shapley', told) };
}

/** @throws ServingError BAD_REQUEST */
function numbersOf(text: string): unknown {
  const value = parsed(text);
  if (value === undefined) throw bad('The answer is no JSON: there is no number to explain');
  return value;
}

/** The body as it came. */
const contentOf = (body: unknown): ContentPart => {
  if (body instanceof BytesBody) return { key: '', bytes: body.bytes, contentType: body.contentType };
  const isText = typeof body === 'string';
  const bytes = Buffer.from(isText ? body : JSON.stringify(body ?? null));
  return { key: '', bytes, contentType: isText ? 'text/plain' : 'application/json' };
};

/** undefined: it is no JSON. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

/** null: it has none. */
function textOf(body: unknown): { text: string; withText: (text: string) => ContentPart } | null {
  if (typeof body === 'string') {
    return {
      text: body,
      withText: (text) => ({ key: '', bytes: Buffer.from(text), contentType: 'text/plain' }),
    };
  }
  const fields = typeof body === 'object' && body !== null ? (body as Record<string, unknown>) : {};
  const field = TEXT_FIELDS.find((name) => typeof fields[name] === 'string');
  if (field === undefined) return null;
  return {
    text: fields[field] as string,
    withText: (text) => ({
      key: '',
      bytes: Buffer.from(JSON.stringify({ ...fields, [field]: text })),
      contentType: 'application/json',
    }),
  };
}

function largestKey(answer: unknown): string {
  const numbers = Object.entries(typeof answer === 'object' && answer !== null ? answer : {}).filter(
    (entry): entry is [string, number] => typeof entry[1] === 'number',
  );
  const [first, ...others] = numbers;
  if (first === undefined) throw bad('The answer has no number: target says where it is');
  return others.reduce((best, one) => (one[1] > best[1] ? one : best), first)[0];
}

/** A key may hold dots itself. */
function numberAt(answer: unknown, key: string): number {
  const direct = (answer as Record<string, unknown> | null)?.[key];
  const value =
    direct ??
    key.split('.').reduce((at: unknown, part) => (at as Record<string, unknown> | null)?.[part], answer);
  if (typeof value !== 'number') throw bad(`The answer has no number at ${key}`);
  return value;
}

const noText = (cause?: unknown): ServingError =>
  new ServingError(
    'BAD_REQUEST',
    `The body has no text in ${TEXT_FIELDS.join(', ')}, and the model names no features of it that it can leave out`,
    { cause },
  );

const bad = (message: string): ServingError => new ServingError('BAD_REQUEST', message);
