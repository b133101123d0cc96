/** A pipeline pack in a model store: served as it is, in batches, by JSON and by forms; one bad item fails itself alone. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { file, script, type Traced, text, trace } from '../../../pipeline/pipeline-api.js';
import { loadConfig } from '../../../server/config/load-config.js';
import { HandlerEngine } from '../../../server/engines/handlers/handler-engine.js';
import { WorkLoadManager } from '../../../server/work-load-manager/work-load-manager.js';
import { LogRecorder } from '../../fixtures/log-recorder.js';
import { startServer, type TestServer } from '../../support/http-fixtures.js';

describe('a pipeline pack', () => {
  const root = mkdtempSync(path.join(tmpdir(), 'shardserve-pack-'));
  const store = path.join(root, 'store');
  let manager: WorkLoadManager;
  let http: TestServer;

  beforeAll(async () => {
    const words = path.join(root, 'words.txt');
    writeFileSync(words, 'hello\nworld\n[UNK]\n');
    const split = text.split();
    const ids = text.vocabulary(file(words));
    const size = script((image: Uint8Array | null) => image?.length ?? 0);
    const pipeline = await trace(
      (texts: Traced, image: Traced) => ({ ids: ids(split(texts)), size: size(image) }),
      { texts: ['hello world unknown'], image: null },
    );
    await pipeline.save(path.join(store, 'text2ids'));
    rmSync(words);
    const config = loadConfig({
      ...{ argv: ['-s', store], cwd: root, installation: root },
      env: {
        SERVING_DOWNLOAD_DIR: path.join(root, 'downloads'),
        SERVING_BATCH_SIZE: '4',
        SERVING_MAX_BATCH_DELAY: '5',
      },
    });
    expect(config.models).toMatchObject([
      { name: 'text2ids', engine: 'handler', entryPoint: 'builtin:pipeline' },
    ]);
    manager = new WorkLoadManager({ engineOf: () => new HandlerEngine(), logger: new LogRecorder().logger });
    http = await startServer({}, null, { service: manager, management: manager });
    for (const model of config.models) await manager.load(model);
  });
  afterAll(async () => {
    await manager.close();
    await http.server.close();
    rmSync(root, { recursive: true, force: true });
  });

  const ask = (body: unknown) =>
    fetch(`${http.url}/predictions/text2ids`, {
      method: 'POST',
      ...(body instanceof FormData
        ? { body }
        : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
    });

  it('answers by the names of its feeds', async () => {
    const feeds = { texts: ['hello world unknown'], image: null };
    expect(await (await ask(feeds)).json()).toEqual({ ids: [[0, 1, 2]], size: 0 });
    expect(await (await ask({ inputs: feeds })).json()).toEqual({ ids: [[0, 1, 2]], size: 0 });
    const form = new FormData();
    form.set('texts', 'world');
    form.set('image', new Blob([new Uint8Array(300)], { type: 'image/png' }), 'a.png');
    expect(await (await ask(form)).json()).toEqual({ ids: [1], size: 300 });
  });

  it('fails one bad request of a batch, and no other', async () => {
    const bodies = Array.from({ length: 12 }, (_, index) => ({
      texts: index % 3 === 0 ? 7 : `world ${index}`,
      image: null,
    }));
    const answers = await Promise.all(bodies.map(ask));
    expect(answers.map(({ status }) => status)).toEqual(
      bodies.map((_, index) => (index % 3 === 0 ? 400 : 200)),
    );
    expect(await answers[0]!.json()).toMatchObject({ message: 'text.split takes texts, not a number' });
    expect(await answers[1]!.json()).toEqual({ ids: [1, 2], size: 0 });
  });
});
