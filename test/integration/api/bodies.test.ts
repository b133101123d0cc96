/** Bodies that are no JSON, and forms that are bombs. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { model, startServer, type TestServer } from '../../support/http-fixtures.js';

let test: TestServer;
beforeEach(async () => {
  test = await startServer();
});
afterEach(() => test.server.close());

const FORM = 'application/x-www-form-urlencoded';
const send = (path: string, body: string | Buffer | FormData, type?: string) =>
  fetch(`${test.url}${path}`, {
    method: 'POST',
    body,
    ...(type !== undefined && { headers: { 'content-type': type } }),
  });
const promptOf = (index: number) => {
  const { prompt } = test.service.submitted[index]!.request;
  return prompt.kind === 'text' ? prompt.text : prompt;
};

describe('a body of any other type is the whole text', () => {
  it.each(['application/octet-stream', 'text/csv', 'text/plain; charset=utf-8', 'image/svg+xml'])(
    '%s',
    async (type) => {
      for (const path of ['/predictions/mlp', '/invocations']) {
        expect((await send(path, Buffer.from('{"inputs": "once µpon"}'), type)).status).toBe(200);
      }
      expect([promptOf(0), promptOf(1)]).toEqual(['{"inputs": "once µpon"}', '{"inputs": "once µpon"}']);
    },
  );

  it('a model of tensors takes no text', async () => {
    test.service.statuses = [model('mlp', { task: 'tensors' })];
    const response = await send('/predictions/mlp', Buffer.from('text'), 'application/octet-stream');
    expect([response.status, await response.text()]).toEqual([
      400,
      expect.stringMatching(/takes application\/json/),
    ]);
  });
});

it("JSON that curl's -d has called a form is JSON, whatever is in it", async () => {
  const body = JSON.stringify({ inputs: 'once & upon = a%20+', parameters: { max_new_tokens: 2 } });
  expect((await send('/predictions/mlp', Buffer.from(body), FORM)).status).toBe(200);
  expect(promptOf(0)).toBe('once & upon = a%20+');
});

describe('forms are counted as they are read', () => {
  it.each(['a&', 'a=1&', '&'])('a bomb of %s is refused by its fields', async (field) => {
    const response = await send('/predictions/mlp', field.repeat(10_000), FORM);
    const text = await response.text();
    expect([response.status, text]).toEqual(
      field === '&' ? [424, expect.anything()] : [400, expect.stringMatching(/at most 64 fields/)],
    );
    expect(test.service.submitted).toHaveLength(0);
  });

  it.each([64, 65])('a multipart form of %i fields', async (count) => {
    const form = new FormData();
    form.set('data', '{"inputs": "once upon"}');
    for (let index = 1; index < count; index += 1) form.append('a', 'b');
    const response = await send('/predictions/mlp', form);
    expect([response.status, await response.text()]).toEqual(
      count === 64 ? [200, expect.anything()] : [400, expect.stringMatching(/at most 64 fields/)],
    );
  });

  it('a file is the text in it; an urlencoded field is decoded', async () => {
    const form = new FormData();
    form.set('data', new Blob(['once µpon a time']), 'prompt.txt');
    expect((await send('/predictions/mlp', form)).status).toBe(200);
    expect((await send('/predictions/mlp', 'data=once+%C2%B5pon', FORM)).status).toBe(200);
    expect([promptOf(0), promptOf(1)]).toEqual(['once µpon a time', 'once µpon']);
  });

  it('a name longer than its limit is refused', async () => {
    const response = await send('/predictions/mlp', `${'n'.repeat(1025)}=1`, FORM);
    expect([response.status, await response.text()]).toEqual([
      400,
      expect.stringMatching(/at most 1024 bytes/),
    ]);
  });
});
