/** What the logs keep of a request's query. */
import { describe, expect, it } from 'vitest';
import { maskedUri } from '../../../../server/http/masked-uri.js';

describe('a request as the logs have it', () => {
  const secret = 'CANARY';
  const signed = `https://user:${secret}@host/m.zip?X-Amz-Signature=${secret}&sig=${secret}`;
  it.each([
    `/models?url=${encodeURIComponent(signed)}`,
    `/models?url=${encodeURIComponent(encodeURIComponent(signed))}`,
    `/models?url=${signed}`,
    `/models?URL=${encodeURIComponent(`s3://${secret}@bucket/x`)}`,
    `/models?x=1&api_key=${secret}&AWSAccessKeyId=${secret}&X-Amz-Credential=${secret}&access_token=${secret}`,
    `/models?https%3A%2F%2Fu%3A${secret}%40host`,
  ])('holds no secret: %s', (uri) => {
    expect(maskedUri(uri)).not.toContain(secret);
  });

  it('keeps the place of a model, and all else as it was sent', () => {
    expect(maskedUri(`/models?url=${encodeURIComponent(signed)}&min_worker=2`)).toBe(
      `/models?url=${encodeURIComponent('https://host/m.zip')}&min_worker=2`,
    );
    for (const uri of ['/a', '/models?limit=2&next_page_token=2', '/p/m?max_new_tokens=5&a=b%20c&', '/x?%'])
      expect(maskedUri(uri)).toBe(uri);
  });
});
