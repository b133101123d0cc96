/** What is read of a model.py of DJLServing, and which line is refused. */
import { describe, expect, it } from 'vitest';
import { pythonFacts } from '../../../../server/config/python/python-facts.js';

const source = (parts: { load?: string; split?: string; pipe?: string; handle?: string; more?: string }) =>
  `
"""A handler."""
import logging
import os, torch
from djl_python import Input, Output
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer as Tokens,
)
from transformers.models.gptj.modeling_gptj import GPTJBlock
import transformers, deepspeed as ds
logger = logging.getLogger(__name__ if False else "x")
predictor: object = None
${parts.more ?? ''}

def get_model(properties):
    ${parts.load ?? 'model = AutoModelForCausalLM.from_pretrained("org/name")'}
    tokenizer = Tokens.from_pretrained("org/name", use_fast=True)
    ${parts.split ?? 'model = ds.init_inference(model, mp_size=2, dtype=torch.float16)'}
    return ${parts.pipe ?? 'transformers.pipeline("text-generation", model=model, tokenizer=tokenizer)'}

def handle(inputs: Input) -> Output:
    global predictor
    if predictor is None:
        predictor = get_model(inputs.get_properties())
    if inputs.is_empty(): return None
    ${parts.handle ?? 'return Output().add(predictor(inputs.get_as_string(), do_sample=True, max_new_tokens=256))'}
`.replace('__name__ if False else "x"', '"x"');

describe('a model.py', () => {
  it('says its checkpoint, how it is split, and how it is asked', () => {
    expect(pythonFacts(source({}))).toEqual({
      ...{ modelId: 'org/name', revision: null, dtype: 'fp16', degree: 2, maxTokens: null, policy: [] },
      ...{ parameters: { do_sample: true, max_new_tokens: 256 }, answer: 'list' },
    });
  });

  it.each([
    [
      {
        load: 'model = AutoModelForCausalLM.from_pretrained(properties.get("model_id"), revision="a" "b", torch_dtype=torch.bfloat16)',
      },
      { modelId: null, revision: 'ab' },
    ],
    [
      {
        split:
          'model = ds.init_inference(model, tensor_parallel={"tp_size": 4}, dtype="int8", max_out_tokens=512)',
      },
      { degree: 4, dtype: 'int8', maxTokens: 512 },
    ],
    [
      {
        split:
          "model = ds.init_inference(model=model, mp_size=int(os.environ.get('WORLD_SIZE', '1')), injection_policy={GPTJBlock: ('attn.out_proj', 'mlp.fc_out')})",
      },
      { degree: null, policy: ['GPTJBlock: attn.out_proj, mlp.fc_out'] },
    ],
    [{ split: 'pass' }, { degree: null, dtype: null }],
    [
      {
        handle:
          'data = inputs.get_as_json()\n    params = data.get("parameters", {})\n    out = predictor(data["inputs"], **params)\n    return Output().add(out[0])',
      },
      { parameters: {}, answer: 'object' },
    ],
    [
      {
        handle:
          'opts = {"temperature": 0.5, "num_beams": 1}\n    out = predictor(inputs.get_as_string(), **opts, min_tokens=-0)\n    return Output().add(out[0]["generated_text"])',
      },
      { parameters: { temperature: 0.5, min_new_tokens: -0 }, answer: 'text' },
    ],
    [
      {
        handle:
          'logger.info("asked")\n    out = predictor(inputs.get_as_string())\n    o = Output()\n    o.add(out)\n    return o',
      },
      null,
    ],
  ] as const)('%j', (parts, facts) => {
    if (facts === null) expect(() => pythonFacts(source(parts))).toThrow(/does not return/);
    else expect(pythonFacts(source(parts))).toMatchObject(facts);
  });

  const lineOf = (text: string, part: string) => text.split('\n').findIndex((one) => one.includes(part)) + 1;

  it.each([
    [
      { more: 'import subprocess\nsubprocess.run("ls")' },
      'subprocess.run(',
      /subprocess\.run\(…\) is not read/,
    ],
    [{ more: 'class A:\n    pass' }, 'class A', /class A: is not read/],
    [{ more: 'x = 1 + 2' }, 'x = 1', /1 \+ 2 is not read/],
    [{ more: 'try:\n    x = 1\nexcept E:\n    pass' }, 'try:', /try: is not read/],
    [{ load: 'model = MyModel("x")' }, 'MyModel', /MyModel is not known/],
    [
      { load: 'model = AutoModelForCausalLM.from_pretrained("a", trust_remote_code=True)' },
      'trust_remote',
      /trust_remote_code=true is not served/,
    ],
    [
      { load: 'model = AutoModelForCausalLM.from_pretrained("a", load_in_8bit=True)' },
      'load_in',
      /load_in_8bit=… of transformers/,
    ],
    [{ split: 'model = ds.init_inference(model, mp_size=0)' }, 'mp_size=0', /split in 0/],
    [
      { split: 'model = ds.init_inference(model, moe=True)' },
      'moe',
      /moe=… of deepspeed.init_inference is not served/,
    ],
    [
      { pipe: 'transformers.pipeline("summarization", model=model)' },
      'summarization',
      /task=summarization is not served/,
    ],
    [{ handle: 'return Output().add("x")' }, 'add("x")', /not what the pipeline gave/],
    [
      { handle: 'return Output().add(predictor(inputs.get_as_string().upper()))' },
      'upper',
      /\.upper\(…\) is not read/,
    ],
    [
      { handle: 'return Output().add(predictor(inputs.get_as_string(), num_beams=4))' },
      'num_beams',
      /num_beams=4 is not served/,
    ],
    [
      { handle: 'if inputs.get_property("a"): return None\n    return Output()' },
      'get_property',
      /only a request or the server says/,
    ],
    [{ more: 'def f(:' }, 'def f(', /this is no Python/],
  ] as const)('that says more (%j) is refused by its line', (parts, part, words) => {
    const text = source(parts);
    expect(() => pythonFacts(text)).toThrow(
      expect.objectContaining({ line: lineOf(text, part), message: expect.stringMatching(words) }),
    );
  });

  it('without handle, and one that calls itself, are refused', () => {
    expect(() => pythonFacts('x = 1')).toThrow(/no function handle/);
    expect(() =>
      pythonFacts('def f(a):\n    return f(a)\ndef handle(inputs):\n    return f(inputs)'),
    ).toThrow(/deeper than 16/);
  });
});
