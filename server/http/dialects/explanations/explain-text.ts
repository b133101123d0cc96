/**
 * Which tokens of a prompt an answer comes from: each token's contribution to the log-probability of the answer.
 *
 * In      {"inputs": text, "answer": text; absent: what the model answers, greedily, with parameters.max_new_tokens}
 * Out     tokens, importances; the score is the answer's log-probability behind the prompt, the base that behind its first token alone
 * Limits  MAX_TOKENS of prompt, MAX_ANSWER of answer; the first token always stays: a model says nothing behind nothing
 * Errors  those of the model; no integrated gradients: shards have no backward pass
 */
import { Type } from '@sinclair/typebox';
import { ServingError } from '../../../../proto/errors.js';
import type { GenerateRequest } from '../../../requests/generate-request.js';
import { InvalidInput } from '../../../requests/invalid-input.js';
import type { Target } from '../../../requests/target.js';
import { compileValidator } from '../../../requests/validation.js';
import type { HttpContext } from '../../http-context.js';
import { type ExplainOptions, explainMasked, toldOf } from './explain-options.js';

const MAX_TOKENS = 256;
const MAX_ANSWER = 256;
const DEFAULT_NEW_TOKENS = 16;

const Body = Type.Object({
  inputs: Type.String({ minLength: 1 }),
  answer: Type.Optional(Type.String({ minLength: 1 })),
  parameters: Type.Optional(
    Type.Object({
      max_new_tokens: Type.Optional(
        Type.Integer({ minimum: 1, maximum: MAX_ANSWER, expects: `a whole number from 1 to ${MAX_ANSWER}` }),
      ),
    }),
  ),
});
const validator = compileValidator(Body);

export async function explainText(
  { service }: Pick<HttpContext, 'service'>,
  given: unknown,
  target: Target,
  options: ExplainOptions,
  signal: AbortSignal,
) {
  if (options.method === 'integrated_gradients') {
    throw new ServingError(
      'BAD_REQUEST',
      'A language model has no gradients here (its shards have no backward pass): method=shapley or occlusion',
    );
  }
  const checked = validator.check(typeof given === 'string' ? { inputs: given } : given);
  if ('error' in checked) throw checked.error;
  const { answer, inputs, parameters } = checked.value;
  const tokens = service.tokens?.(target.model, target.version);
  if (tokens === undefined) throw new ServingError('BAD_REQUEST', `Model ${target.model} knows no tokens`);
  const prompt = await tokens.encode({ kind: 'text', text: inputs }, true, signal);
  const asked = (ids: readonly number[], more: Partial<GenerateRequest>): GenerateRequest => ({
    ...{ kind: 'generate', ...target, prompt: { kind: 'ids', ids }, stopStrings: [], stopTokenIds: [] },
    ...{ includeStopString: false, ignoreEndIds: true, skipSpecialTokens: false, logprob: true },
    ...{ maxNewTokens: 0, topLogprobs: 0, sampling: { doSample: false }, samplingDefaults: {} },
    ...more,
  });
  const answered =
    answer === undefined
      ? await generatedIds(service, asked(prompt, newTokens(parameters?.max_new_tokens)), signal)
      : await tokens.encode({ kind: 'text', text: answer }, false, signal);
  if (prompt.length < 2)
    throw new InvalidInput('inputs has no token behind its first: nothing is to be explained', 'inputs');
  if (prompt.length > MAX_TOKENS || answered.length > MAX_ANSWER || answered.length === 0) {
    const limits = `at most ${MAX_TOKENS} tokens of prompt, and 1 to ${MAX_ANSWER} of answer`;
    throw new InvalidInput(`${limits} are explained, got ${prompt.length} and ${answered.length}`, null);
  }
  const [first, ...rest] = prompt as [number, ...number[]];
  const told = await explainMasked(
    rest.length,
    (kept) =>
      logprobOf(
        service,
        asked([first, ...rest.filter((_, at) => kept[at]), ...answered], { promptLogprobs: 0 }),
        answered.length,
        signal,
      ),
    options,
  );
  return {
    tokens: rest.map((id) => tokens.text(id)),
    first: tokens.text(first),
    answer: tokens.decode(answered),
    ...toldOf(options.method ?? 'shapley', told),
  };
}

const newTokens = (count = DEFAULT_NEW_TOKENS): Partial<GenerateRequest> => ({
  maxNewTokens: count,
  ignoreEndIds: false,
});

async function generatedIds(
  service: HttpContext['service'],
  request: GenerateRequest,
  signal: AbortSignal,
): Promise<number[]> {
  const ids: number[] = [];
  const { events } = await service.submit(request, signal);
  for await (const event of events) if (event.kind === 'token') ids.push(event.tokenId);
  return ids;
}

/** The log-probability of the last tokens of a prompt. */
async function logprobOf(
  service: HttpContext['service'],
  request: GenerateRequest,
  count: number,
  signal: AbortSignal,
): Promise<number> {
  const logprobs: number[] = [];
  const { events } = await service.submit(request, signal);
  for await (const event of events) if (event.kind === 'prompt-token') logprobs.push(event.logprob);
  return logprobs.slice(-count).reduce((sum, one) => sum + one, 0);
}
