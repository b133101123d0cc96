/** What a stranger's ONNX file may say and make, and what it costs: outputs, memory, names, shapes, files beside it. */
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { OnnxWriter } from '../../../partitioner/graph/onnx-writer.js';
import { OnnxChild } from '../../../server/engines/onnx/onnx-child.js';
import { OnnxEngine } from '../../../server/engines/onnx/onnx-engine.js';
import { WorkLoadManager } from '../../../server/work-load-manager/work-load-manager.js';
import { LogRecorder } from '../../fixtures/log-recorder.js';
import { FAKE_CONFIG } from '../../support/fake-model.js';

const root = mkdtempSync(path.join(tmpdir(), 'shardserve-onnx-limits-'));
afterAll(() => rmSync(root, { recursive: true }));
const children: OnnxChild[] = [];
afterEach(async () => {
  await Promise.all(children.splice(0).map((child) => child.stop()));
});

async function started(graph: OnnxWriter, memoryMb = 0): Promise<OnnxChild> {
  const file = path.join(mkdtempSync(path.join(root, 'model-')), 'model.onnx');
  writeFileSync(file, graph.encode('test'));
  const options = {
    intraOpThreads: 1,
    interOpThreads: 1,
    optimisation: 'all',
    parallel: false,
    memoryMb,
  } as const;
  const child = await OnnxChild.start(file, options, 60_000, new AbortController().signal);
  children.push(child);
  return child;
}

/** shape [1] → y, so many zeros. */
function zeros(): OnnxWriter {
  const graph = new OnnxWriter('zeros');
  graph.node('ConstantOfShape', [graph.input('shape', 'int64', [1])], ['y']);
  graph.output('y', 'float32', ['n']);
  return graph;
}

async function asked(child: OnnxChild, count: number): Promise<number> {
  const bytes = new Uint8Array(BigInt64Array.of(BigInt(count)).buffer);
  const inputs = [{ name: 'shape', type: 'INT64', shape: [1], bytes }] as const;
  const { outputs } = await child.run(inputs, null, 60_000);
  return outputs[0]!.bytes.byteLength;
}

describe('the process of an ONNX model', () => {
  it('hands no more on than the server can hold, and serves on', async () => {
    const child = await started(zeros());
    await expect(asked(child, 135_000_000)).rejects.toMatchObject({
      code: 'BAD_REQUEST',
      message: 'the outputs have 540000000 bytes, of at most 536870912',
    });
    expect(await asked(child, 5)).toBe(20);
  });

  it('takes no more memory than option.onnx_memory_mb: the request that would is refused with the figure, others are answered', async () => {
    const child = await started(zeros(), 512);
    await expect(asked(child, 130_000_000)).rejects.toMatchObject({
      code: 'BAD_REQUEST',
      message: expect.stringMatching(
        /^it needs more memory than option\.onnx_memory_mb, which is 512, leaves: /,
      ),
    });
    expect(await asked(child, 5)).toBe(20);
  });

  it('says no more of its inputs than anybody needs', async () => {
    const many = new OnnxWriter('many');
    for (let index = 0; index < 1025; index++) many.input(`x${index}`, 'float32', [1]);
    many.node('Identity', ['x0'], ['y']);
    many.output('y', 'float32', [1]);
    await expect(started(many)).rejects.toThrow('it has 1025 inputs, of at most 1024');
    const long = new OnnxWriter('long');
    long.node('Identity', [long.input('x'.repeat(2000), 'float32', [1])], ['y']);
    long.output('y', 'float32', [1]);
    await expect(started(long)).rejects.toThrow('the name of an input has 2000 characters, of at most 1024');
  });

  it('reads no weights outside of its folder', async () => {
    writeFileSync(path.join(root, 'secret'), new Uint8Array(16).fill(65));
    symlinkSync(path.join(root, 'secret'), path.join(root, 'link'));
    for (const location of [
      '../secret',
      path.join(root, 'secret'),
      '../link',
      './../secret',
      'x/../../secret',
    ]) {
      const graph = new OnnxWriter('outside');
      const weight = graph.weight('w', { type: 'float32', shape: [4], location, offset: 0, bytes: 16 });
      graph.node('Add', [graph.input('x', 'float32', [4]), weight], ['y']);
      graph.output('y', 'float32', [4]);
      await expect(started(graph), location).rejects.toMatchObject({ code: 'CHECKPOINT_INVALID' });
    }
  });
});

describe('an ONNX model', () => {
  async function loaded(graph: OnnxWriter, name: string): Promise<WorkLoadManager> {
    const folder = mkdtempSync(path.join(root, 'served-'));
    writeFileSync(path.join(folder, 'model.onnx'), graph.encode('test'));
    const manager = new WorkLoadManager({
      engineOf: () => new OnnxEngine(),
      logger: new LogRecorder().logger,
    });
    await manager.load({ ...FAKE_CONFIG, name, folder, engine: 'onnx' });
    return manager;
  }

  it('is warmed up whatever its inputs are called, and not where that would take milliards of zeros', async () => {
    const graph = new OnnxWriter('names');
    graph.node('Identity', [graph.input('constructor', 'float32', ['n', 2])], ['toString']);
    graph.node('Shape', [graph.input('wide', 'float32', ['n', 2_000_000_000])], ['shape']);
    graph.output('toString', 'float32', ['n', 2]);
    graph.output('shape', 'int64', [2]);
    const manager = await loaded(graph, 'names');
    try {
      expect(manager.models()[0]?.state).toBe('READY');
    } finally {
      await manager.close();
    }
  });
});
