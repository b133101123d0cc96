/**
 * Which words of a text a number of a handler's (or a pipeline's) answer comes from.
 *
 * In      a plain text, or JSON with a text in `text`, `data` or `inputs`; `target`, a key of the answer (keys inside each other by dots; default: its largest number)
 * Out     words, importances, in TorchServe's shape; of a handler that explains itself (explainHandle, or any whose answer to the header
 *         explain: True has the header x-explained) what it says
 * Limits  MAX_WORDS; bodies that are no text (images) are not explained
 * Errors  BAD_REQUEST
 */
import { ServingError } from '../../../../proto/errors.js';
import type { ContentPart } from '../../../requests/invoke-request.js';
import type { Target } from '../../../requests/target.js';
import { allOf } from '../../answers/answer.js';
import { answerHandler } from '../../answers/handler-answer.js';
import { ContentBody } from '../../bodies/model-bodies.js';
import type { HttpContext } from '../../http-context.js';
import { type ExplainOptions, explainMasked, toldOf } from './explain-options.js';

const MAX_WORDS = 512;
/** Of BaseHandler's answer that is an explanation. */
const EXPLAINED_HEADER = 'x-explained';
const TEXT_FIELDS = ['text', 'data', 'inputs'];

export async function explainHandler(
  context: Pick<HttpContext, 'service'>,
  body: unknown,
  properties: Readonly<Record<string, string>>,
  target: Target,
  options: ExplainOptions,
  client: AbortController,
): Promise<unknown> {
  const askAny = async (content: ContentPart, explain: 'True' | 'False') => {
    const asked = new ContentBody([content]);
    const answer = await answerHandler(context, asked, { ...properties, explain }, target, client);
    if (answer.kind !== 'content') throw new Error('a handler answers with content');
    const { chunks, headers, status } = await answer.make();
    const text = (await allOf(chunks)).toString('utf8');
    if (status >= 400) throw bad(text.slice(0, 500));
    return { text, isExplained: headers[EXPLAINED_HEADER] !== undefined };
  };
  const found = textOf(body);
  const own = await askAny(contentOf(body), 'True').catch((error: unknown) => {
    // It cannot read it either.
    throw found === null ? noText(error) : error;
  });
  if (own.isExplained) return parsed(own.text) ?? own.text;
  if (found === null) throw noText();
  if (options.method === 'integrated_gradients')
    throw bad('A handler has no gradients: method=shapley or occlusion');
  const { text, withText } = found;
  const words = text.split(/\s+/u).filter((word) => word !== '');
  if (words.length === 0 || words.length > MAX_WORDS)
    throw bad(`1 to ${MAX_WORDS} words are explained, got ${words.length}`);
  const ask = async (given: string): Promise<unknown> => {
    const value = parsed((await askAny(withText(given), 'False')).text);
    if (value === undefined) throw bad('The answer is no JSON: there is no number to explain');
    return value;
  };
  const whole = await ask(words.join(' '));
  const key = options.target ?? largestKey(whole);
  const score = async (kept: readonly boolean[]): Promise<number> =>
    numberAt(await ask(words.filter((_, at) => kept[at]).join(' ')), key);
  numberAt(whole, key);
  const told = await explainMasked(words.length, score, options);
  return { words, target: key, ...toldOf(options.method ?? 'shapley', told) };
}

/** The body as it came. */
const contentOf = (body: unknown): ContentPart => {
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
    `The body has no text in ${TEXT_FIELDS.join(', ')}: only texts are explained`,
    { cause },
  );

const bad = (message: string): ServingError => new ServingError('BAD_REQUEST', message);
