/** SageMaker's sessions on DJLServing's paths, of one model and of many. */
import { afterEach, beforeEach, expect, it } from 'vitest';
import { Sessions } from '../../../server/http/answers/sessions.js';
import { model, postJson, startServer, type TestServer } from '../../support/http-fixtures.js';

const SESSION = 'x-amzn-sagemaker-session-id';

let test: TestServer;
beforeEach(async () => {
  test = await startServer({}, 'mlp');
  test.service.statuses = [
    model('mlp', { version: 'v1', sessionSeconds: 60 }),
    model('mlp', { version: 'v2', sessionSeconds: 60 }),
    model('plain', { sessionSeconds: null }),
  ];
  // A session has one version, whatever else is asked in between.
  test.service.choice = (_, session) => (session === null ? 'v1' : `v${1 + (session.charCodeAt(0) % 2)}`);
});
afterEach(() => test.server.close());

const ask = (path: string, body: object, session?: string) =>
  postJson(test.url + path, body, session === undefined ? {} : { [SESSION]: session });
const idOf = ({ headers }: { headers: Headers }): string => {
  const told = headers.get(SESSION);
  expect(told).toMatch(/^[0-9a-f-]{36}; Expires=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
  return told!.slice(0, 36);
};
const TEXT = { inputs: 'a' };

it.each(['/invocations', '/models/mlp/invoke', '/predictions/mlp'])(
  'are opened, asked in and closed: %s',
  async (path) => {
    const opened = await ask(path, { requestType: 'NEW_SESSION' });
    const id = idOf(opened);
    expect([opened.status, JSON.parse(opened.text)]).toEqual([200, { result: `Session ${id} created` }]);
    for (let at = 0; at < 2; at++) expect((await ask(path, TEXT, id)).status).toBe(200);
    const version = `v${1 + (id.charCodeAt(0) % 2)}`;
    expect(test.service.submitted.map(({ request }) => request.version)).toEqual([version, version]);
    const closed = await ask(path, { requestType: 'CLOSE' }, id);
    expect([closed.status, JSON.parse(closed.text)]).toEqual([200, { result: `Session ${id} closed` }]);
    expect(closed.headers.get('x-amzn-sagemaker-closed-session-id')).toBe(id);
    for (const body of [TEXT, { requestType: 'CLOSE' }, { messages: [{ role: 'user', content: 'a' }] }]) {
      const refused = await ask(path, body, id);
      expect([refused.status, JSON.parse(refused.text)]).toEqual([
        424,
        {
          code: 424,
          error: `Input Parsing failed. Ensure that the request payload is valid. invalid session_id: "${id}" is no open session: it was never opened, was closed, or has expired`,
        },
      ]);
    }
  },
);

it('begin with their first request, where its header says so', async () => {
  const first = await ask('/invocations', { ...TEXT, stream: true }, 'NEW_SESSION');
  expect(first.status).toBe(200);
  const id = idOf(first);
  expect((await ask('/invocations', TEXT, id)).status).toBe(200);
});

it.each([
  ['/invocations', { requestType: 'PAUSE' }, /requestType must be one of NEW_SESSION, CLOSE, got "PAUSE"/],
  ['/invocations', { requestType: 'CLOSE' }, /invalid session_id: ""/],
  ['/models/plain/invoke', { requestType: 'NEW_SESSION' }, /not enabled .*: NEW_SESSION is not supported/],
])('%s %o is a 424 in a sentence', async (path, body, sentence) => {
  const refused = await ask(path, body);
  expect([refused.status, JSON.parse(refused.text).error]).toEqual([424, expect.stringMatching(sentence)]);
});

it('end by themselves, belong to their key, and leave room for others', () => {
  let now = 1000;
  const sessions = new Sessions(() => now);
  const { expiresAtMs, id } = sessions.open('one', 60);
  expect(expiresAtMs).toBe(61_000);
  expect([sessions.isOpen(id, 'one'), sessions.isOpen(id, 'two'), sessions.close(id, null)]).toEqual([
    true,
    false,
    false,
  ]);
  for (let at = 1; at < 5000; at++) sessions.open('one', 60);
  expect(() => sessions.open('one', 60)).toThrow(
    expect.objectContaining({
      ...{ code: 'QUEUE_FULL', retryAfterSeconds: 60 },
      message: '5000 sessions of this key are open, at most 5000 may be: close some first',
    }),
  );
  sessions.open('two', 30);
  // Another's end is of no use to this one.
  expect(() => sessions.open('one', 60)).toThrow(expect.objectContaining({ retryAfterSeconds: 60 }));
  for (let at = 1; at < 5000; at++) sessions.open('three', 60);
  expect(() => sessions.open(null, 60)).toThrow(
    expect.objectContaining({
      ...{ code: 'QUEUE_FULL', retryAfterSeconds: 30 },
      message: '10000 sessions are open, at most 10000 may be: close some first',
    }),
  );
  now = 61_000;
  expect(sessions.isOpen(id, 'one')).toBe(false);
  sessions.open('one', 60);
});
