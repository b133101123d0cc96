/** server/http/errors.ts: every operating error has an answer in every dialect. */
import { describe, expect, it } from 'vitest';
import { ERROR_TABLE, type ErrorCode, ServingError } from '../../../../proto/errors.js';
import { djlError, lmiInputError } from '../../../../server/http/dialects/djl/djl-errors.js';
import { openAiError } from '../../../../server/http/dialects/openai/openai-errors.js';
import { toServingError } from '../../../../server/http/errors.js';
import { InvalidInput } from '../../../../server/requests/invalid-input.js';

const CODES = Object.keys(ERROR_TABLE) as ErrorCode[];
const config = {
  badRequestHttpCode: 400,
  wlmErrorHttpCode: 503,
  throttleErrorHttpCode: 503,
  serverErrorHttpCode: 500,
};

describe('error tables', () => {
  it.each(CODES)('%s has status and body in both dialects, of the same kind as its own', (code) => {
    const error = new ServingError(code, 'what happened');
    const djl = djlError(error, config);
    const body = JSON.parse(djl.body) as Record<string, unknown>;
    expect(body.code).toBe(djl.status);
    // DJLServing's Python engine has a form of its own.
    const ofHandler = code === 'HANDLER_FAILED';
    expect(Object.keys(body)).toEqual(ofHandler ? ['code', 'message', 'error'] : ['code', 'type', 'message']);
    if (!ofHandler) expect(body.type).toMatch(/^[A-Z][A-Za-z]+Exception$/);
    const openAi = openAiError(error);
    expect(JSON.parse(openAi.body)).toMatchObject({ error: { message: 'what happened', param: null } });
    // A client's fault stays one, a server's fault stays one; only a full queue is a 429 to OpenAI's clients.
    const isClientFault = (status: number) => status < 500;
    if (code !== 'QUEUE_FULL') {
      expect(isClientFault(openAi.status)).toBe(isClientFault(error.httpStatus));
    }
    if (!ofHandler) expect(isClientFault(djl.status)).toBe(isClientFault(error.httpStatus));
  });

  it('takes the configurable codes from the configuration', () => {
    const moved = { ...config, throttleErrorHttpCode: 429 };
    expect(djlError(new ServingError('QUEUE_FULL', ''), moved).status).toBe(429);
    expect(djlError(new ServingError('MODEL_NOT_READY', ''), moved).status).toBe(503);
  });
});

describe('what is no operating error', () => {
  it('becomes one by its kind', () => {
    const fastify = (code: string, statusCode: number) =>
      Object.assign(new Error('words'), { code, statusCode });
    const kind = (thrown: unknown) => toServingError(thrown, 99).code;
    expect(toServingError(fastify('FST_ERR_CTP_BODY_TOO_LARGE', 413), 99).message).toContain('99 bytes');
    expect(kind(fastify('FST_ERR_CTP_EMPTY_JSON_BODY', 400))).toBe('BAD_REQUEST');
    expect(kind(fastify('FST_ERR_CTP_INVALID_CONTENT_LENGTH', 400))).toBe('BAD_REQUEST');
    expect(kind(fastify('FST_ERR_OTHER', 415))).toBe('BAD_REQUEST');
    expect(kind(fastify('FST_ERR_OTHER', 500))).toBe('INTERNAL');
    expect(kind(new SyntaxError('bad'))).toBe('BAD_REQUEST');
    expect(kind(new TypeError('bug'))).toBe('INTERNAL');
  });

  it('says an invalid body in the words of LMI', () => {
    const { status, body } = lmiInputError(new InvalidInput('n must be 1', 'n'));
    expect([status, JSON.parse(body)]).toEqual([
      424,
      { code: 424, error: 'Input Parsing failed. Ensure that the request payload is valid. n must be 1' },
    ]);
  });
});
