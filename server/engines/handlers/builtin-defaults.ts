/** TorchServe's own handlers, by name. */
import type { BaseHandler } from './base-handler.js';
import type { Context } from './context.js';
import { ImageClassifier, ImageSegmenter, ObjectDetector } from './defaults/image-handlers.js';
import { TextClassifier, TextToEmbedding, TokenClassifier } from './defaults/text-handlers.js';
import { type LoadedHandler, torchHandler } from './handler-shape.js';

const HANDLERS: Readonly<Record<string, new () => BaseHandler>> = {
  image_classifier: ImageClassifier,
  image_segmenter: ImageSegmenter,
  object_detector: ObjectDetector,
  text_classifier: TextClassifier,
  text_to_embedding: TextToEmbedding,
  token_classifier: TokenClassifier,
};

export const builtInHandler = (context: Context, name: string): LoadedHandler =>
  torchHandler(new HANDLERS[name]!(), context);
