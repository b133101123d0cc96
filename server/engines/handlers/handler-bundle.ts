/**
 * A handler's sources as one module: TypeScript or JavaScript, with what it imports from its own folder.
 *
 * In      the entry; `shardserve/handler` and the product's own packages (`onnxruntime-node`, …) come from the product, all else from
 *         the model's folder
 * Out     the loaded module; its stack traces name the sources
 * Errors  Error whose message names file, line and column
 */
import { writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import type { BuildFailure, Plugin } from 'esbuild';
import { makeScratchFolder, removeScratchFolder } from '../../machine/scratch-folder.js';
import type { HandlerEntry } from './handler-messages.js';

const API = new URL('./handler-api.js', import.meta.url).href;
/** A model need not bring them along. */
const OWN_PACKAGES = ['onnxruntime-node', 'sharp', '@huggingface/tokenizers'];

/** What a handler imports by name, where it is the product's. */
const ownPackages: Plugin = {
  name: 'own-packages',
  setup(build) {
    build.onResolve({ filter: /^shardserve\/handler$/ }, () => ({ path: API, external: true }));
    build.onResolve({ filter: new RegExp(`^(?:${OWN_PACKAGES.join('|')})$`) }, ({ path: name }) => ({
      // Node's own packages are CommonJS or ESM as their entry says; a URL of the file does for both.
      path: pathToFileURL(createRequire(import.meta.url).resolve(name)).href,
      external: true,
    }));
  },
};

/** @param beforeImport called when it is built, before any of it runs. @throws Error */
export async function loadHandlerModule(
  { file, folder }: HandlerEntry,
  beforeImport: () => void,
): Promise<Record<string, unknown>> {
  const source = path.join(folder, file);
  const code = await bundled(source);
  beforeImport();
  const scratch = await makeScratchFolder(tmpdir(), 'handler-');
  try {
    const target = path.join(scratch, 'handler.mjs');
    await writeFile(target, code);
    return (await import(pathToFileURL(target).href)) as Record<string, unknown>;
  } finally {
    await removeScratchFolder(scratch);
  }
}

async function bundled(source: string): Promise<string> {
  const esbuild = await import('esbuild');
  try {
    const { outputFiles } = await esbuild.build({
      entryPoints: [source],
      bundle: true,
      platform: 'node',
      format: 'esm',
      target: 'node20',
      sourcemap: 'inline',
      // Stack traces name the sources where they are.
      outfile: path.join(path.dirname(source), 'handler.mjs'),
      sourceRoot: `${pathToFileURL(path.dirname(source)).href}/`,
      write: false,
      logLevel: 'silent',
      absWorkingDir: path.dirname(source),
      define: { 'import.meta.url': JSON.stringify(pathToFileURL(source).href) },
      plugins: [ownPackages],
    });
    return outputFiles[0]!.text;
  } catch (error) {
    throw new Error(firstProblem(error as BuildFailure));
  } finally {
    // Its process would stay until ours ends.
    await esbuild.stop();
  }
}

function firstProblem(failure: BuildFailure): string {
  const [first] = failure.errors ?? [];
  if (first === undefined) return failure.message;
  const { location, text } = first;
  return location === null ? text : `${location.file}:${location.line}:${location.column + 1}: ${text}`;
}
