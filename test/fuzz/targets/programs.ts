/** What is nearly a program: DJLServing's model.py, workflows of three servers, and what a model writes of calls and thoughts. */
import { pythonFacts } from '../../../server/config/python/python-facts.js';
import { PythonProblem } from '../../../server/config/python/python-syntax.js';
import {
  CALL_PARSER_NAMES,
  newAnswerParser,
  REASONING_PARSER_NAMES,
} from '../../../server/text/answer-parts/answer-parsers.js';
import { readWorkflow } from '../../../server/workflows/read-workflow.js';
import { type FuzzTarget, isOperating } from '../fuzz-target.js';
import { BRACKETS, type Json, jsonText, mutatedJson, mutatedText } from '../mutations.js';
import { putFile, scratchFolder } from '../scratch.js';

const PYTHON = `import os, torch
from djl_python import Input, Output
from transformers import AutoModelForCausalLM, AutoTokenizer
import transformers, deepspeed as ds
predictor = None
NAMES = ["org/name", 2.5, None, (1, {"a": True})]

def get_model(properties):
    degree = int(properties.get("tensor_parallel_degree", 2))
    name = properties.get("model_id", "org/name")
    model = AutoModelForCausalLM.from_pretrained(name, torch_dtype=torch.float16)
    tokenizer = AutoTokenizer.from_pretrained(name, use_fast=True)
    model = ds.init_inference(model, mp_size=degree, dtype=torch.float16, replace_with_kernel_inject=True)
    return transformers.pipeline("text-generation", model=model, tokenizer=tokenizer)

def handle(inputs: Input) -> Output:
    global predictor
    if predictor is None:
        predictor = get_model(inputs.get_properties())
    if inputs.is_empty():
        return None
    data = inputs.get_as_string()
    return Output().add(predictor(data, do_sample=True, max_new_tokens=256))
`;
const PYTHON_WORDS = [
  ...[
    'def ',
    'lambda x: ',
    'class A:\n',
    'return ',
    'if ',
    'else:',
    'for x in y:',
    'while True:',
    '    ',
    '\t',
  ],
  ...BRACKETS,
  ...['"""', "'", '\\', 'f"{x}"', '**', '*', '@', ':=', '...', 'global ', 'None'],
  ...[
    'handle',
    'predictor',
    'get_model',
    'properties',
    'import ',
    'from . import x',
    '#',
    ';',
    ' if x else y',
  ],
];

const CALLS: Json = {
  name: 'w',
  version: '1.0',
  models: { a: 'a.mar', b: { modelUrl: 'b', batchSize: 2, timeoutMillis: 100, retryAttempts: 2 } },
  functions: { join: 'functions.ts:join' },
  workflow: { x: ['a', 'in'], out: ['join', 'x', ['b', ['identity', 'in']]] },
};
const MANIFEST: Json = {
  createdOn: '01/01/2024 00:00:00',
  workflow: { workflowName: 'w', specFile: 'spec.yaml', handler: 'handler.ts' },
};
const EDGES = `models:
  min-workers: 1
  batch-size: 4
  retry-attempts: 2
  dogs: {url: dogs.mar}
  cats:
    url: cats.mar
    timeout-ms: 500
dag:
  pre: [dogs, cats]
  dogs: [join]
  cats: [join]
`;
const ENSEMBLE = `name: "both" platform: "ensemble" max_batch_size: 4
input [ { name: "a" data_type: TYPE_FP32 dims: [ 3 ] } ]
output [ { name: "c" data_type: TYPE_STRING dims: [ 1 ] } ]
ensemble_scheduling { step [
  { model_name: "two" model_version: -1 input_map { key: "x" value: "b" } output_map { key: "y" value: "c" } },
  { model_name: "one" input_map { key: "x" value: "a" } output_map { key: "y" value: "b" } } ] }
`;

const ANSWERS = [
  'I look up.\n<tool_call>\n{"name": "f", "arguments": {"a": [1, {"b": "c\\u00e9"}], "d": null}}\n</tool_call>\n<tool_call>{"arguments": {}}</tool_call>',
  '[TOOL_CALLS][{"name": "f", "arguments": {"a": "b"}, "id": "abcdefghi"}, {"name": "g", "arguments": {}}]',
  '[TOOL_CALLS]f[ARGS]{"a": 1}[TOOL_CALLS]g[CALL_ID]abcdefghi[ARGS]{"b": 2}',
  '<|python_tag|>{"name": "f", "parameters": {"a": 1}}; {"name": "g", "parameters": {}}',
  '[f(a=1, b="x\\n", c=[True, None, -2.5], d={"e": (1,)}), g()]',
  '<|python_start|>[f(a=1)]<|python_end|>',
  '<think>so\nthat</think>\n\nthe answer [THINK]x[/THINK] Here is my thought process: y Here is my response: z',
  '<|channel|>analysis<|message|>let me see<|end|><|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>{"a": 1}<|call|>',
  '<|channel|>final<|message|>There.<|return|>',
];
const ANSWER_WORDS = [
  ...[
    '<tool_call>',
    '</tool_call>',
    '[TOOL_CALLS]',
    '[ARGS]',
    '[CALL_ID]',
    '<|python_tag|>',
    '<|python_start|>',
  ],
  ...[
    '<|python_end|>',
    '<think>',
    '</think>',
    '[THINK]',
    '<|channel|>',
    '<|message|>',
    '<|end|>',
    '<|call|>',
  ],
  ...[
    '<|start|>',
    '<|constrain|>',
    'to=functions.',
    '"name"',
    '"arguments"',
    '{',
    '}',
    '[',
    ']',
    '(',
    ')',
    ',',
  ],
  ...['"', "'", '\\', '\\u', '\\ud800', '=', ':', ';', '\n', '-', '1e', '😀', '\ud83d', '<', '<|'],
];

export const PROGRAM_TARGETS: readonly FuzzTarget[] = [
  {
    name: 'model-py',
    weight: 4,
    run: (random) => pythonFacts(mutatedText(PYTHON, random, PYTHON_WORDS)),
    isExpected: (error) => error instanceof PythonProblem,
  },
  {
    name: 'workflow',
    weight: 3,
    run(random) {
      const kind = random.pick(['calls', 'edges', 'ensemble']);
      const folder = scratchFolder(`workflow-${kind}`);
      if (kind === 'calls') putFile(folder, 'workflow.json', jsonText(mutatedJson(CALLS, random), random));
      else if (kind === 'ensemble') putFile(folder, 'config.pbtxt', mutatedText(ENSEMBLE, random));
      else {
        const manifest = random.next() < 0.3 ? mutatedJson(MANIFEST, random) : MANIFEST;
        putFile(folder, 'WAR-INF/MANIFEST.json', jsonText(manifest, random));
        putFile(folder, 'spec.yaml', mutatedText(EDGES, random));
      }
      return readWorkflow(folder);
    },
    isExpected: isOperating,
  },
  {
    name: 'answer-parts',
    weight: 10,
    run(random) {
      const calls = random.pick([null, ...CALL_PARSER_NAMES]) as never;
      const reasoning = random.pick([null, ...REASONING_PARSER_NAMES]) as never;
      const format = { calls, reasoning, startsInside: random.next() < 0.3 };
      const forced = random.pick([
        null,
        null,
        null,
        { kind: 'list' },
        { kind: 'arguments', name: 'f' },
      ] as const);
      const parser = newAnswerParser({ format, hasCalls: random.next() < 0.8, thinks: true, forced });
      const text = mutatedText(random.pick(ANSWERS), random, ANSWER_WORDS);
      for (let at = 0; parser !== null && at < text.length; ) {
        const length = random.integer(1, 12);
        parser.push(text.slice(at, at + length));
        at += length;
      }
      return parser?.flush();
    },
    // Whatever a model writes, it is somebody's answer.
    isExpected: () => false,
  },
];
