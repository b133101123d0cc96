/**
 * TorchServe's handlers for texts: text_classifier, token_classifier, text_to_embedding.
 *
 * In      a folder with an .onnx file of input_ids (and attention_mask, token_type_ids), tokenizer.json, perhaps index_to_name.json; a request
 *         is a text, or JSON {"text": …}, {"data": …}, {"body": …}
 * Out     text_classifier: {label: chance, …}; token_classifier: [{word, entity, score}, …]; text_to_embedding: [number, …]
 * Limits  handler.max_length tokens of model-config.yaml, 512 unless it says otherwise: the rest of a text is cut off
 * Errors  PredictionException 400: no text
 * Source  TorchServe's text_classifier; its Transformers example for the others
 */
import type { InferenceSession, Tensor as OrtTensor } from 'onnxruntime-node';
import { Tokenizer } from '../../../text/tokenizer.js';
import { BaseHandler, PredictionException, type RequestData } from '../base-handler.js';
import type { Context } from '../context.js';
import { labelNames } from './label-names.js';
import { rowsOf, softmax } from './tensor-rows.js';

const MAX_LENGTH = 512;

/** Texts of one batch, as ids of the same length. */
export interface TokenBatch {
  ids: readonly (readonly number[])[];
  width: number;
}

abstract class TextHandler extends BaseHandler {
  protected tokenizer!: Tokenizer;
  protected nameOf: (index: number) => string = String;
  #maxLength = MAX_LENGTH;
  protected batch: TokenBatch = { ids: [], width: 0 };

  override async initialize(context: Context): Promise<void> {
    await super.initialize(context);
    if (this.session === null) throw new Error('there is no .onnx file in the model');
    const folder = context.systemProperties.model_dir;
    this.tokenizer = Tokenizer.read(folder);
    this.nameOf = labelNames(folder);
    const { max_length: given } = (context.modelYamlConfig.handler ?? {}) as { max_length?: unknown };
    if (Number.isSafeInteger(given) && (given as number) > 0) this.#maxLength = given as number;
  }

  override async preprocess(data: readonly RequestData[]): Promise<InferenceSession.FeedsType> {
    const ids = data.map((one) =>
      this.tokenizer.encode(textOf(one), { addSpecialTokens: true }).slice(0, this.#maxLength),
    );
    const width = Math.max(1, ...ids.map((list) => list.length));
    this.batch = { ids, width };
    const { Tensor } = await import('onnxruntime-node');
    const filled = (at: (list: readonly number[], index: number) => number): OrtTensor =>
      new Tensor(
        'int64',
        BigInt64Array.from(
          ids.flatMap((list) => Array.from({ length: width }, (_, index) => BigInt(at(list, index)))),
        ),
        [ids.length, width],
      );
    const feeds: Record<string, OrtTensor> = {};
    for (const name of this.session!.inputNames) {
      feeds[name] = filled((list, index) => {
        if (/mask/.test(name)) return index < list.length ? 1 : 0;
        return /type/.test(name) ? 0 : (list[index] ?? 0);
      });
    }
    return feeds;
  }

  /** The only output, or the first. */
  protected first(outputs: unknown): OrtTensor {
    return (outputs as Record<string, OrtTensor>)[this.session!.outputNames[0]!]!;
  }
}

export class TextClassifier extends TextHandler {
  override async postprocess(outputs: unknown): Promise<Record<string, number>[]> {
    return rowsOf(this.first(outputs)).map((row) =>
      Object.fromEntries(softmax(row).map((chance, index) => [this.nameOf(index), chance])),
    );
  }
}

export interface TokenLabel {
  word: string;
  entity: string;
  score: number;
}

export class TokenClassifier extends TextHandler {
  override async postprocess(outputs: unknown): Promise<TokenLabel[][]> {
    const rows = rowsOf(this.first(outputs));
    const { ids, width } = this.batch;
    return ids.map((list, at) =>
      list.flatMap((id, index) => {
        const word = this.tokenizer.table.tokens[id] ?? '';
        if (this.tokenizer.table.specialIds.includes(id)) return [];
        const chances = softmax(rows[at * width + index]!);
        const best = chances.indexOf(Math.max(...chances));
        return [{ word, entity: this.nameOf(best), score: chances[best]! }];
      }),
    );
  }
}

/** The mean over a text's own tokens, where the model gives one row a token. */
export class TextToEmbedding extends TextHandler {
  override async postprocess(outputs: unknown): Promise<number[][]> {
    const tensor = this.first(outputs);
    const rows = rowsOf(tensor);
    if (tensor.dims.length === 2) return rows;
    const { ids, width } = this.batch;
    return ids.map((list, at) => {
      const own = rows.slice(at * width, at * width + list.length);
      return own[0]!.map((_, column) => own.reduce((sum, row) => sum + row[column]!, 0) / own.length);
    });
  }
}

function textOf(data: RequestData): string {
  let value: unknown = data.data ?? data.body ?? data.text;
  if (typeof value === 'object' && value !== null && !(value instanceof Uint8Array)) {
    const { body, data: inner, text } = value as { text?: unknown; data?: unknown; body?: unknown };
    value = text ?? inner ?? body;
  }
  if (value instanceof Uint8Array) value = Buffer.from(value).toString('utf8');
  if (typeof value === 'string') return value;
  throw new PredictionException('A request must be a text, or JSON with "text"', 400);
}
