/**
 * The ONNX model beside a handler, opened.
 *
 * In      a folder; the manifest's serialised file, or else its only .onnx file, or model.onnx among several
 * Out     a session; null: there is no such file
 */
import { readdirSync } from 'node:fs';
import path from 'node:path';
import type { InferenceSession } from 'onnxruntime-node';
import type { Context } from './context.js';

export async function onnxSession({ manifest, systemProperties }: Context): Promise<InferenceSession | null> {
  const { model_dir: folder, threads } = systemProperties;
  const serialised = (manifest as { model?: { serializedFile?: unknown } } | null)?.model?.serializedFile;
  const found = readdirSync(folder).filter((name) => name.endsWith('.onnx'));
  const file =
    typeof serialised === 'string' && serialised.endsWith('.onnx')
      ? serialised
      : (found.find((name) => name === 'model.onnx') ?? found[0]);
  if (file === undefined) return null;
  const runtime = await import('onnxruntime-node');
  return runtime.InferenceSession.create(path.join(folder, file), {
    executionProviders: ['cpu'],
    intraOpNumThreads: threads,
    logSeverityLevel: 3,
  });
}
