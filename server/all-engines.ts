/**
 * Every engine that the server has. A new one is a folder in engines/ and a line in ALL_ENGINES: its name is what `engine` says in a
 * serving.properties, and what DJLServing calls it may stand in config/engine-names.ts besides.
 *
 * In      what main has for engines
 * Out     the engine of a model, by the name in its configuration
 */
import assert from 'node:assert/strict';
import type { ModelConfig } from './config/config.js';
import type { Engine } from './engines/engine.js';
import type { OpenBoundModel } from './engines/handlers/bound-model.js';
import { HandlerEngine } from './engines/handlers/handler-engine.js';
import { LlmEngine, type LlmEngineOptions } from './engines/llm/llm-engine.js';
import { OnnxEngine } from './engines/onnx/onnx-engine.js';

export interface EngineParts {
  readonly llm: LlmEngineOptions;
  readonly openBoundModel: OpenBoundModel;
}

export type EngineTable = Readonly<Record<string, (parts: EngineParts) => Engine>>;

export const ALL_ENGINES: EngineTable = {
  llm: ({ llm }) => new LlmEngine(llm),
  onnx: () => new OnnxEngine(),
  handler: ({ openBoundModel }) => new HandlerEngine(openBoundModel),
};

/** One of each. The configuration was read with their names: there is none without an engine. */
export function openEngines(
  table: EngineTable,
  parts: EngineParts,
): (config: Pick<ModelConfig, 'engine'>) => Engine {
  const engines = new Map(Object.entries(table).map(([name, open]) => [name, open(parts)]));
  return ({ engine: name }) => {
    const engine = engines.get(name);
    assert(engine, `there is an engine ${name}`);
    return engine;
  };
}
