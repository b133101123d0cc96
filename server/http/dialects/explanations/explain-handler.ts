/**
 * Which words of a text a number of a handler's (or a pipeline's) answer comes from.
 *
 * In      a plain text, or JSON with a text in `text`, `data` or `inputs`; `target`, a key of the answer (keys inside each other by dots; default: its largest number)
 * Out     words, importances, in TorchServe's shape
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
const TEXT_FIELDS = ['text', 'data', 'inputs'];

export async function explainHandler(
  context: Pick<HttpContext, 'service'>,
  body: unknown,
  properties: Readonly<Record<string, string>>,
  target: Target,
  options: ExplainOptions,
  client: AbortController,
) {
  if (options.method === 'integrated_gradients')
    throw bad('A handler has no gradients: method=shapley or occlusion');
  const { text, withText } = textOf(body);
  const words = text.split(/\s+/u).filter((word) => word !== '');
  if (words.length === 0 || words.length > MAX_WORDS)
    throw bad(`1 to ${MAX_WORDS} words are explained, got ${words.length}`);
  const ask = async (given: string): Promise<unknown> => {
    const answer = await answerHandler(
      context,
      new ContentBody([withText(given)]),
      properties,
      target,
      client,
    );
    if (answer.kind !== 'content') throw new Error('a handler answers with content');
    const { chunks, status } = await answer.make();
    const bytes = await allOf(chunks);
    if (status >= 400) throw bad(bytes.toString('utf8').slice(0, 500));
    try {
      return JSON.parse(bytes.toString('utf8')) as unknown;
    } catch {
      throw bad('The answer is no JSON: there is no number to explain');
    }
  };
  const whole = await ask(words.join(' '));
  const key = options.target ?? largestKey(whole);
  const score = async (kept: readonly boolean[]): Promise<number> =>
    numberAt(await ask(words.filter((_, at) => kept[at]).join(' ')), key);
  numberAt(whole, key);
  const told = await explainMasked(words.length, score, options);
  return { words, target: key, ...toldOf(options.method ?? 'shapley', told) };
}

function textOf(body: unknown): { text: string; withText: (text: string) => ContentPart } {
  if (typeof body === 'string') {
    return {
      text: body,
      withText: (text) => ({ key: '', bytes: Buffer.from(text), contentType: 'text/plain' }),
    };
  }
  const fields = typeof body === 'object' && body !== null ? (body as Record<string, unknown>) : {};
  const field = TEXT_FIELDS.find((name) => typeof fields[name] === 'string');
  if (field === undefined)
    throw bad(`The body has no text in ${TEXT_FIELDS.join(', ')}: only texts are explained`);
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

const bad = (message: string): ServingError => new ServingError('BAD_REQUEST', message);
