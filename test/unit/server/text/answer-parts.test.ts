import { describe, expect, it } from 'vitest';
import type {
  AnswerFormat,
  CallParserName,
  ReasoningParserName,
} from '../../../../server/requests/answer-format.js';
import {
  guessAnswerFormat,
  newAnswerParser,
  type ParserOptions,
} from '../../../../server/text/answer-parts/answer-parsers.js';
import { type AnswerPart, joinParts } from '../../../../server/text/answer-parts/answer-part.js';
import { seededRandom } from '../../../fixtures/seeded-random.js';

const format = (
  calls: CallParserName | null,
  reasoning: ReasoningParserName | null = null,
  startsInside = false,
): AnswerFormat => ({ calls, reasoning, startsInside });

const read = (options: ParserOptions, pieces: readonly string[]): AnswerPart[] => {
  const parser = newAnswerParser(options)!;
  return joinParts([...pieces.flatMap((piece) => parser.push(piece)), ...parser.flush()]);
};

interface Read {
  reasoning?: string;
  content?: string;
  calls?: { name: string; arguments: string; id?: string }[];
}

function summed(parts: readonly AnswerPart[]): Read {
  const read: Read = {};
  for (const part of parts) {
    if (part.kind === 'reasoning' || part.kind === 'content')
      read[part.kind] = (read[part.kind] ?? '') + part.text;
    else if (part.kind === 'call') {
      const { id, name } = part;
      read.calls = [...(read.calls ?? []), { name, arguments: '', ...(id !== undefined && { id }) }];
    } else if (part.kind === 'arguments') read.calls![part.index]!.arguments += part.text;
  }
  return read;
}

/** The forms are those of the models' cards, chat templates and prompt-format pages. */
const EXAMPLES: { what: string; options: ParserOptions; text: string; expected: Read }[] = [
  {
    what: 'Hermes 2 Pro: one call',
    options: { format: format('hermes'), hasCalls: true },
    text: '<tool_call>\n{"arguments": {"symbol": "TSLA"}, "name": "get_stock_fundamentals"}\n</tool_call>\n',
    expected: { calls: [{ name: 'get_stock_fundamentals', arguments: '{"symbol": "TSLA"}' }] },
  },
  {
    what: 'Qwen 2.5: text, then two calls',
    options: { format: format('hermes'), hasCalls: true },
    text:
      'I look both up.\n<tool_call>\n{"name": "get_current_temperature", "arguments": {"location": "San Francisco, CA, USA"}}\n</tool_call>\n' +
      '<tool_call>\n{"name": "get_temperature_date", "arguments": {"location": "San Francisco, CA, USA", "date": "2024-10-01"}}\n</tool_call>',
    expected: {
      content: 'I look both up.',
      calls: [
        { name: 'get_current_temperature', arguments: '{"location": "San Francisco, CA, USA"}' },
        {
          name: 'get_temperature_date',
          arguments: '{"location": "San Francisco, CA, USA", "date": "2024-10-01"}',
        },
      ],
    },
  },
  {
    what: 'Qwen 3: it thinks, then calls',
    options: { format: format('hermes', 'qwen3'), hasCalls: true },
    text: '<think>\nThe user wants the weather.\n</think>\n\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>',
    expected: {
      reasoning: 'The user wants the weather.',
      calls: [{ name: 'get_weather', arguments: '{"city": "Paris"}' }],
    },
  },
  {
    what: 'Qwen 3 without thinking',
    options: { format: format('hermes', 'qwen3'), hasCalls: true },
    text: 'Paris is the capital of France.\n',
    expected: { content: 'Paris is the capital of France.\n' },
  },
  {
    what: 'a marker that stays text',
    options: { format: format('hermes'), hasCalls: true },
    text: 'Write <tool_ca and <tool_call>this</tool_call> down',
    expected: { content: 'Write <tool_ca and <tool_call>this</tool_call> down' },
  },
  {
    what: 'arguments with everything that could end them',
    options: { format: format('hermes'), hasCalls: true },
    text: '<tool_call>{"name":"f","arguments":{"a":"} </tool_call> \\" {","b":[{"c":[]}],"d":null}}</tool_call>',
    expected: {
      calls: [{ name: 'f', arguments: '{"a":"} </tool_call> \\" {","b":[{"c":[]}],"d":null}' }],
    },
  },
  {
    what: 'a call without arguments, and arguments as a JSON string',
    options: { format: format('hermes'), hasCalls: true },
    text: '<tool_call>{"name": "now"}</tool_call><tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}</tool_call>',
    expected: {
      calls: [
        { name: 'now', arguments: '{}' },
        { name: 'f', arguments: '{"a": 1}' },
      ],
    },
  },
  {
    what: 'an answer that is cut off in a call',
    options: { format: format('hermes'), hasCalls: true },
    text: '<tool_call>{"name": "f", "arguments": {"a": "b',
    expected: { calls: [{ name: 'f', arguments: '{"a": "b' }] },
  },
  {
    what: 'an answer that is cut off before the name',
    options: { format: format('hermes'), hasCalls: true },
    text: 'so: <tool_call>{"na',
    expected: { content: 'so: <tool_call>{"na' },
  },
  {
    what: 'Llama 3.1: one call',
    options: { format: format('llama3_json'), hasCalls: true },
    text: '{"name": "get_current_conditions", "parameters": {"location": "San Francisco, CA", "unit": "Fahrenheit"}}',
    expected: {
      calls: [
        {
          name: 'get_current_conditions',
          arguments: '{"location": "San Francisco, CA", "unit": "Fahrenheit"}',
        },
      ],
    },
  },
  {
    what: 'Llama 3.1: behind its python tag, two calls',
    options: { format: format('llama3_json'), hasCalls: true },
    text: '<|python_tag|>{"type": "function", "name": "a", "parameters": {"x": 1}}; {"name": "b", "parameters": {}}',
    expected: {
      calls: [
        { name: 'a', arguments: '{"x": 1}' },
        { name: 'b', arguments: '{}' },
      ],
    },
  },
  {
    what: 'Llama 3.1: a JSON answer that is no call',
    options: { format: format('llama3_json'), hasCalls: true },
    text: '{"answer": {"city": "Paris"}} as asked',
    expected: { content: '{"answer": {"city": "Paris"}} as asked' },
  },
  {
    what: 'Llama 3.1: text',
    options: { format: format('llama3_json'), hasCalls: true },
    text: ' Hello {"name": "a"}',
    expected: { content: ' Hello {"name": "a"}' },
  },
  {
    what: 'Mistral v3',
    options: { format: format('mistral'), hasCalls: true },
    text: '[TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Paris", "n": [1, 2]}}, {"name": "now", "arguments": {}}]',
    expected: {
      calls: [
        { name: 'get_weather', arguments: '{"city": "Paris", "n": [1, 2]}' },
        { name: 'now', arguments: '{}' },
      ],
    },
  },
  {
    what: 'Mistral v11',
    options: { format: format('mistral'), hasCalls: true },
    text: 'One moment. [TOOL_CALLS]get_weather{"city": "Paris [x] {y}"}[TOOL_CALLS]now{}',
    expected: {
      content: 'One moment.',
      calls: [
        { name: 'get_weather', arguments: '{"city": "Paris [x] {y}"}' },
        { name: 'now', arguments: '{}' },
      ],
    },
  },
  {
    what: 'Mistral v13, an id with one of them, it thinks before',
    options: { format: format('mistral', 'mistral'), hasCalls: true },
    text: '[THINK]which city?[/THINK][TOOL_CALLS]get_weather[CALL_ID]VvvODy9mT[ARGS]{"city": "Paris"}[TOOL_CALLS]now[ARGS]{}',
    expected: {
      reasoning: 'which city?',
      calls: [
        { name: 'get_weather', arguments: '{"city": "Paris"}', id: 'VvvODy9mT' },
        { name: 'now', arguments: '{}' },
      ],
    },
  },
  {
    what: 'Llama 3.2 pythonic',
    options: { format: format('pythonic'), hasCalls: true },
    text: "[get_weather(city='San Francisco', metric='celsius'), get_weather(city=\"Seattle\", days=[1, 2.5, -3], opts={'a': True, 'b': None})]",
    expected: {
      calls: [
        { name: 'get_weather', arguments: '{"city": "San Francisco", "metric": "celsius"}' },
        {
          name: 'get_weather',
          arguments: '{"city": "Seattle", "days": [1, 2.5, -3], "opts": {"a": true, "b": null}}',
        },
      ],
    },
  },
  {
    what: 'Llama 4 pythonic, escapes, no arguments',
    options: { format: format('llama4_pythonic'), hasCalls: true },
    text: '<|python_start|>[now(), say(text="a\\n\\"b\\" \\u00e9 \'")]<|python_end|>',
    expected: {
      calls: [
        { name: 'now', arguments: '{}' },
        { name: 'say', arguments: '{"text": "a\\n\\"b\\" é \'"}' },
      ],
    },
  },
  {
    what: 'a list that is no call',
    options: { format: format('pythonic'), hasCalls: true },
    text: '[link](https://example.org) and [1, 2]',
    expected: { content: '[link](https://example.org) and [1, 2]' },
  },
  {
    what: 'DeepSeek R1: the template opened the reasoning',
    options: { format: format(null, 'deepseek_r1', true), hasCalls: false },
    text: 'Okay, so the user <i>asks</i> </thin …\n</think>\n\nIt is 4.',
    expected: { reasoning: 'Okay, so the user <i>asks</i> </thin …', content: 'It is 4.' },
  },
  {
    what: 'DeepSeek R1: it opens it itself; cut off',
    options: { format: format(null, 'deepseek_r1'), hasCalls: false },
    text: '<think>\nOkay, so',
    expected: { reasoning: 'Okay, so' },
  },
  {
    what: 'Granite',
    options: { format: format(null, 'granite'), hasCalls: false },
    text: 'Here is my thought process: two and two. Here is my response: 4.',
    expected: { reasoning: 'two and two.', content: '4.' },
  },
  {
    what: 'GPT-OSS: analysis, then the answer',
    options: { format: format('openai', 'openai_gptoss'), hasCalls: false },
    text: '<|channel|>analysis<|message|>User asks: 2 + 2. Simple.<|end|><|start|>assistant<|channel|>final<|message|>2 + 2 = 4.',
    expected: { reasoning: 'User asks: 2 + 2. Simple.', content: '2 + 2 = 4.' },
  },
  {
    what: 'GPT-OSS: a call in the commentary channel',
    options: { format: format('openai', 'openai_gptoss'), hasCalls: true },
    text:
      '<|channel|>analysis<|message|>Need to use function get_current_weather.<|end|>' +
      '<|start|>assistant<|channel|>commentary to=functions.get_current_weather <|constrain|>json<|message|>{"location":"San Francisco"}',
    expected: {
      reasoning: 'Need to use function get_current_weather.',
      calls: [{ name: 'get_current_weather', arguments: '{"location":"San Francisco"}' }],
    },
  },
  {
    what: 'GPT-OSS: a preamble is said, and the recipient may stand before the channel',
    options: { format: format('openai', 'openai_gptoss'), hasCalls: true },
    text:
      '<|channel|>commentary<|message|>I will look it up.<|end|>' +
      '<|start|>assistant to=functions.lookup<|channel|>commentary json<|message|>{"q": 1}<|call|>',
    expected: { content: 'I will look it up.', calls: [{ name: 'lookup', arguments: '{"q": 1}' }] },
  },
  {
    what: 'tool_choice required: a list of calls',
    options: { format: format(null), hasCalls: true, forced: { kind: 'list' } },
    text: '[ {"name": "a", "parameters": {"x": [1]}} ,\n{"name": "b", "parameters": {}}]',
    expected: {
      calls: [
        { name: 'a', arguments: '{"x": [1]}' },
        { name: 'b', arguments: '{}' },
      ],
    },
  },
  {
    what: 'tool_choice with a name: the arguments alone',
    options: { format: format('hermes'), hasCalls: true, forced: { kind: 'arguments', name: 'a' } },
    text: '{"x": 1}',
    expected: { calls: [{ name: 'a', arguments: '{"x": 1}' }] },
  },
  {
    what: 'no tools: a call is text',
    options: { format: format('hermes', 'qwen3'), hasCalls: false },
    text: '<think>\n\n</think>\n\n<tool_call>{"name": "f"}</tool_call>',
    expected: { content: '<tool_call>{"name": "f"}</tool_call>' },
  },
];

describe('parts of an answer', () => {
  it.each(EXAMPLES)('$what', ({ expected, options, text }) => {
    const whole = read(options, [text]);
    expect(summed(whole)).toEqual(expected);
    expect(read(options, [...text]), 'a character at a time').toEqual(whole);
    for (let cut = 1; cut < text.length; cut++) {
      expect(read(options, [text.slice(0, cut), text.slice(cut)]), `cut at ${cut}`).toEqual(whole);
    }
    const random = seededRandom(text.length);
    for (let round = 0; round < 50; round++) {
      const pieces: string[] = [];
      for (let at = 0; at < text.length; ) {
        const units = random.integer(1, 12);
        pieces.push(text.slice(at, at + units));
        at += units;
      }
      expect(read(options, pieces), JSON.stringify(pieces)).toEqual(whole);
    }
  });

  it('never fails and loses no content, whatever the text is', () => {
    const random = seededRandom(7);
    const shreds = EXAMPLES.flatMap(
      ({ text }) => text.match(/<[^>]*>?|\[[A-Z_/]*\]?|"[^"]*"?|[^<["]+/g) ?? [],
    );
    for (let round = 0; round < 2000; round++) {
      const text = Array.from({ length: 8 }, () => random.pick(shreds)).join('');
      const { options } = random.pick(EXAMPLES);
      const whole = read(options, [text]);
      expect(read(options, [...text]), JSON.stringify({ text, options })).toEqual(whole);
    }
  });

  it('tells a format by the template and by what a prompt of it ends with', () => {
    const cases: [string, string, AnswerFormat][] = [
      ['…<tool_call>…</think>…', '<|im_start|>assistant\n', format('hermes', 'qwen3')],
      ['…<think>…', '<｜Assistant｜><think>\n', format(null, 'deepseek_r1', true)],
      ['…<tool_call>…', 'assistant\n', format('hermes')],
      ['…<tool_call><function=…', 'assistant\n', format(null)],
      ['…[TOOL_CALLS]…', '[/INST]', format('mistral')],
      ['…[TOOL_CALLS]…[THINK]', '[/INST]', format('mistral', 'mistral')],
      ['<|start_header_id|> {"name": …, "parameters": …', 'assistant', format('llama3_json')],
      ['<|start_header_id|> [func_name1(a=…)] "parameters"', 'assistant', format('pythonic')],
      ['<|python_start|>', 'assistant', format('llama4_pythonic')],
      ['<|start|>…<|channel|>…', '<|start|>assistant', format('openai', 'openai_gptoss')],
      ['{{ messages }}', '', format(null)],
    ];
    for (const [template, end, expected] of cases)
      expect(guessAnswerFormat(template, end), template).toEqual(expected);
  });
});
