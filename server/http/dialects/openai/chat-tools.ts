/**
 * Tools of a chat: which there are, whether one must be called, and what that makes of the answer.
 *
 * In      tools, tool_choice (of OpenAI's Responses too: they say the same flat), parallel_tool_calls
 * Out     what the template gets; the form of an answer that must call; how such an answer is read
 * Limits  MAX_TOOLS tools; MAX_FORCED_CALLS calls in a forced answer
 * Errors  InvalidInput naming the field
 * Source  OpenAI API reference (function calling); vLLM: a forced answer is a JSON list of calls, or the arguments of the one that is named
 */

import { type Static, Type } from '@sinclair/typebox';
import { isObject } from '../../../../proto/is-object.js';
import type { ConstraintSpec } from '../../../requests/answer-constraint.js';
import { InvalidInput } from '../../../requests/invalid-input.js';
import { quote } from '../../../requests/validation.js';

const MAX_TOOLS = 128;
const MAX_FORCED_CALLS = 32;

const Tool = Type.Object({
  type: Type.Literal('function'),
  function: Type.Object({
    name: Type.String({
      pattern: '^[A-Za-z0-9_.:-]{1,128}$',
      expects: 'a name of 1 … 128 letters, digits, "_", "-", "." or ":"',
    }),
    description: Type.Optional(Type.Union([Type.String(), Type.Null()])),
    parameters: Type.Optional(Type.Union([Type.Record(Type.String(), Type.Unknown()), Type.Null()])),
  }),
});
type Tool = Static<typeof Tool>;

const Named = Type.Object({
  type: Type.Literal('function'),
  function: Type.Object({ name: Type.String({ minLength: 1 }) }),
});

export const ToolFields = {
  tools: Type.Optional(Type.Array(Tool, { maxItems: MAX_TOOLS })),
  tool_choice: Type.Optional(
    Type.Union([Type.Literal('auto'), Type.Literal('none'), Type.Literal('required'), Named], {
      expects: '"auto", "none", "required" or {"type": "function", "function": {"name": …}}',
    }),
  ),
  parallel_tool_calls: Type.Optional(Type.Boolean()),
};

export interface ToolBody {
  tools?: Tool[];
  tool_choice?: 'auto' | 'none' | 'required' | Static<typeof Named>;
  parallel_tool_calls?: boolean;
}

export type Forced = { kind: 'list' } | { kind: 'arguments'; name: string };

export interface ToolUse {
  /** The answer may call. */
  mayCall: boolean;
  /** The answer is nothing but this; null: it is free. */
  forced: Forced | null;
  constraint: ConstraintSpec | null;
  /** Calls of an answer that are told. */
  most: number;
}

/**
 * A choice among some of the tools is a choice among all of fewer: the model is shown no others.
 *
 * @throws InvalidInput
 */
export function withAllowedTools(body: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  const { tool_choice: choice, tools } = body;
  if (!isObject(choice) || choice.type !== 'allowed_tools') return body;
  const { mode, tools: allowed } = isObject(choice.allowed_tools) ? choice.allowed_tools : choice;
  if ((mode !== 'auto' && mode !== 'required') || !Array.isArray(allowed)) {
    const error = 'tool_choice of allowed_tools needs a mode, "auto" or "required", and a list of tools';
    throw new InvalidInput(error, 'tool_choice');
  }
  const given: unknown[] = Array.isArray(tools) ? tools : [];
  const kept = allowed.map((one) => {
    const name = nameOf(one);
    const tool = given.find((each) => name !== undefined && nameOf(each) === name);
    if (tool !== undefined) return tool;
    const named = quote(name);
    throw new InvalidInput(`tool_choice allows the function ${named}, which is not in tools`, 'tool_choice');
  });
  return { ...body, tools: kept, tool_choice: mode };
}

/** A tool and what points at one both have a name, here or within. */
function nameOf(tool: unknown): unknown {
  if (!isObject(tool)) return undefined;
  return isObject(tool.function) ? tool.function.name : tool.name;
}

/** @throws InvalidInput */
export function toolUse({
  parallel_tool_calls: parallel = true,
  tool_choice: chosen,
  tools = [],
}: ToolBody): ToolUse {
  const most = parallel ? Number.POSITIVE_INFINITY : 1;
  const isForced = chosen === 'required' || typeof chosen === 'object';
  if (tools.length === 0 && isForced) {
    throw new InvalidInput('tool_choice needs tools to choose from', 'tool_choice');
  }
  if (!isForced) {
    return { mayCall: tools.length > 0 && chosen !== 'none', forced: null, constraint: null, most };
  }
  if (typeof chosen === 'object') {
    const { name } = chosen.function;
    const tool = tools.find((one) => one.function.name === name);
    if (tool === undefined) {
      throw new InvalidInput(`tool_choice names the function ${name}, which is not in tools`, 'tool_choice');
    }
    const schema = parametersOf(tool);
    return {
      mayCall: true,
      forced: { kind: 'arguments', name },
      constraint: { kind: 'json-schema', schema },
      most,
    };
  }
  const items = {
    anyOf: tools.map((tool, index) => ({
      type: 'object',
      properties: {
        name: { const: tool.function.name },
        parameters: movedReferences(parametersOf(tool), `#/items/anyOf/${index}/properties/parameters`),
      },
      required: ['name', 'parameters'],
      additionalProperties: false,
    })),
  };
  const schema = { type: 'array', items, minItems: 1, maxItems: parallel ? MAX_FORCED_CALLS : 1 };
  return { mayCall: true, forced: { kind: 'list' }, constraint: { kind: 'json-schema', schema }, most };
}

/** Arguments are an object, whatever else is said of them. */
function parametersOf({ function: { parameters } }: Tool): Record<string, unknown> {
  return parameters === undefined || parameters === null || Object.keys(parameters).length === 0
    ? { type: 'object', properties: {}, additionalProperties: false }
    : { type: 'object', ...parameters };
}

/** References within a schema, once it stands within another. */
function movedReferences(value: unknown, root: string): unknown {
  if (Array.isArray(value)) return value.map((one) => movedReferences(one, root));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, one]) => [
      name,
      name === '$ref' && typeof one === 'string' && one.startsWith('#')
        ? `${root}${one.slice(1)}`
        : movedReferences(one, root),
    ]),
  );
}
