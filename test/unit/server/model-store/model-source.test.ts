/** server/model-store/model-source: what a model URL names, and what of it may be printed. */
import { describe, expect, it } from 'vitest';
import { ServingError } from '../../../../proto/errors.js';
import { MAX_URL_LENGTH, parseModelUrl } from '../../../../server/model-store/model-source.js';

const refusal = (url: string): string => {
  try {
    parseModelUrl(url);
  } catch (error) {
    if (error instanceof ServingError && error.code === 'BAD_REQUEST') return error.message;
    throw error;
  }
  throw new Error(`${url} was accepted`);
};

describe('a model URL', () => {
  it.each([
    ['/opt/ml/model', { kind: 'path', path: '/opt/ml/model', hub: null }, 'model'],
    ['models/my-model.v1/', { kind: 'path', path: 'models/my-model.v1/', hub: null }, 'my_model_v1'],
    ['file:///tmp/a%20b.tar.gz', { kind: 'path', path: '/tmp/a b.tar.gz', hub: null }, 'a_b'],
    ['org/name', { kind: 'path', path: 'org/name', hub: { id: 'org/name', revision: 'main' } }, 'name'],
    ['gpt2@v1', { kind: 'path', path: 'gpt2@v1', hub: { id: 'gpt2', revision: 'v1' } }, 'gpt2_v1'],
    [
      'hf://org/na.me@refs/pr/1',
      { kind: 'hub', model: { id: 'org/na.me', revision: 'refs/pr/1' } },
      'org_na_me',
    ],
    [
      'hf://org/name:Q4_K_M@v1',
      { kind: 'hub', model: { id: 'org/name', revision: 'v1', variant: 'Q4_K_M' } },
      'org_name_Q4_K_M',
    ],
    ['s3://bucket/a/llama-3', { kind: 's3', bucket: 'bucket', prefix: 'a/llama-3/' }, 'llama_3'],
    ['s3://bucket/a/llama.tgz', { kind: 's3', bucket: 'bucket', prefix: 'a/llama.tgz' }, 'llama'],
    ['s3://bucket', { kind: 's3', bucket: 'bucket', prefix: '' }, 'bucket'],
  ])('%s is read', (url, source, suggestedName) => {
    expect(parseModelUrl(url)).toMatchObject({ source, suggestedName });
  });

  it('of http keeps its secrets out of what is printed', () => {
    const { display, source, suggestedName } = parseModelUrl('https://u:p@Host.example/a/m%2D1.zip?sig=x#f');
    expect(display).toBe('https://host.example/a/m%2D1.zip');
    expect(suggestedName).toBe('m_1');
    expect(source.kind === 'http' && source.url.href).toBe('https://u:p@host.example/a/m%2D1.zip?sig=x');
  });

  it.each([
    ['', /empty/],
    ['a\0b', /control character/],
    ['x'.repeat(MAX_URL_LENGTH + 1), /4097 characters, at most 4096/],
    ['djl://ai.djl/resnet', /scheme djl/],
    ['jar:file:///x.jar', /scheme jar/],
    ['http://', /cannot be parsed/],
    ['file://other-host/x', /no file URL of this machine/],
    ['s3://UPPER/x', /no bucket/],
    ['s3://a..b%2f/x', /no bucket/],
    ['hf://org/name/extra', /no model of the hub/],
    ['hf://org/..', /no model of the hub/],
    ['hf://org/name@../../api', /no model of the hub/],
    ['hf:org/name', /no model of the hub/],
  ])('%j is refused', (url, message) => {
    expect(refusal(url)).toMatch(message);
  });
});
