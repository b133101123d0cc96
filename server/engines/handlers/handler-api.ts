/**
 * What a handler imports: `import { BaseHandler, Output } from 'shardserve/handler'`.
 *
 * Two shapes, DJLServing's `handle(inputs: Input): Output | null` and TorchServe's class (or function) of `(data, context)`.
 */
export { BaseHandler, PredictionException, type RequestData } from './base-handler.js';
export { Context, sendIntermediatePredictResponse } from './context.js';
export { type HandlerMetric, HandlerMetrics } from './handler-metrics.js';
export { Input } from './input.js';
export {
  type Generated,
  type GenerationParameters,
  LanguageModel,
  ModelError,
  type Predictor,
  pipeline,
} from './language-model.js';
export { Output, type OutputValue } from './output.js';
