/** SageMaker's custom attributes as headers. */
import { describe, expect, it } from 'vitest';
import { requestControl, spreadCustomAttributes } from '../../../../server/requests/request-control.js';

const spread = (attributes: string, headers: Record<string, string> = {}) => {
  const all: Record<string, string> = { 'x-amzn-sagemaker-custom-attributes': attributes, ...headers };
  spreadCustomAttributes(all);
  delete all['x-amzn-sagemaker-custom-attributes'];
  return all;
};

describe('spreadCustomAttributes', () => {
  it.each([
    ['model_name=a;model_version=v1', { model_name: 'a', model_version: 'v1' }],
    [' X-Starting-Token = t=1 ; ', { 'x-starting-token': 't=1' }],
    ['content-length=9;host=evil;transfer-encoding=chunked', {}],
    ['c000b4f9-df62-4c85-a0bf-7c525f9104a4', {}],
    ['handler=x', { handler: 'x' }],
  ])('%s', (attributes, expected) => {
    expect(spread(attributes)).toEqual(expected);
  });

  it('a header of its own is stronger', () => {
    expect(spread('x-priority=9', { 'x-priority': '1' })).toEqual({ 'x-priority': '1' });
  });

  it('has a limit', () => {
    expect(() => spread('a'.repeat(1025))).toThrow(/at most 1024 characters, got 1025/);
  });
});

it('requestControl leaves out what is not given', () => {
  expect(requestControl({})).toEqual({});
  expect(requestControl({ 'x-priority': '+4' })).toEqual({ priority: 4 });
  expect(requestControl({ 'x-cache-salt': 'tenant 7' })).toEqual({ cacheSalt: 'tenant 7' });
});

it('requestControl refuses a salt that is empty or too long', () => {
  expect(() => requestControl({ 'x-cache-salt': '' })).toThrow('x-cache-salt must be a string of 1 … 256');
  expect(() => requestControl({ 'x-cache-salt': 'a'.repeat(257) })).toThrow('of 1 … 256 characters');
});

it.each(['-11', '11', '-2147483648'])('without a key there is no priority %s', (priority) => {
  expect(() => requestControl({ 'x-priority': priority })).toThrow(
    'x-priority must be an integer of -10 … 10',
  );
});
