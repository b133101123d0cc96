/**
 * One pre- and post-processing pipeline for training and serving: `import { script, trace, load } from 'shardserve/pipeline'`.
 *
 * Write operators (script) or take them (text, tensor, model), trace a function over them, save it with all it needs, load it
 * anywhere: what it answered when it was traced is compared again.
 */
export { image } from './image-ops.js';
export { model } from './model-ops.js';
export { load } from './pack.js';
export type { Feeds, Pipeline, ProfileEvent } from './pipeline.js';
export { PipelinePool } from './pipeline-pool.js';
export { Tensor, type Value } from './pipeline-value.js';
export { file, type ResourceFile } from './resource-file.js';
export type { RunMode } from './run-mode.js';
export { script } from './script.js';
export { tensor } from './tensor-ops.js';
export { text } from './text-ops.js';
export { trace } from './trace.js';
export type { Op, Traced } from './tracing.js';
