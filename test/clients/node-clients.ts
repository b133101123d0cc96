/** npm's clients, each asked what client-cases.ts lists of it: an operation gives what came of it. */
import Anthropic from '@anthropic-ai/sdk';
import { InferenceClient } from '@huggingface/inference';
import OpenAI from 'openai';

export interface Given {
  url: string;
  model: string;
  prompt: string;
  tokens: number;
  /** JSON schema of a tool's arguments. */
  parameters: Record<string, unknown>;
}

type Operations = Readonly<Record<string, () => Promise<unknown>>>;

export const NODE_CLIENTS: Readonly<Record<string, (given: Given) => Operations>> = {
  'openai-npm': openai,
  'anthropic-npm': anthropic,
  'huggingface-npm': huggingFace,
};

function openai({ model, parameters, prompt, tokens, url }: Given): Operations {
  const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0 });
  const messages: OpenAI.ChatCompletionMessageParam[] = [{ role: 'user', content: prompt }];
  const ask = { model, max_tokens: tokens, temperature: 0 };
  const answer = { model, input: prompt, max_output_tokens: tokens, temperature: 0 };
  return {
    completions: async () => (await client.completions.create({ ...ask, prompt })).choices[0]!.text,
    'completions, streamed': async () => {
      let text = '';
      const stream = await client.completions.create({ ...ask, prompt, stream: true });
      for await (const { choices } of stream) text += choices[0]?.text ?? '';
      return text;
    },
    chat: async () =>
      (await client.chat.completions.create({ ...ask, messages })).choices[0]!.message.content,
    'chat, streamed': async () => client.chat.completions.stream({ ...ask, messages }).finalContent(),
    'three turns with a tool that must be called': async () => {
      const told = [...messages];
      const tools = [{ type: 'function' as const, function: { name: 'weather', parameters } }];
      let last = '';
      for (let turn = 0; turn < 3; turn++) {
        const body = { ...ask, max_tokens: 300, messages: told, tools, tool_choice: 'required' as const };
        const { message } = (await client.chat.completions.create(body)).choices[0]!;
        const [call] = message.tool_calls ?? [];
        if (call?.type !== 'function') throw new Error(`turn ${turn} has no call`);
        last = call.function.arguments;
        told.push(message, { role: 'tool', tool_call_id: call.id, content: '18' });
        told.push({ role: 'user', content: 'And then?' });
      }
      return last;
    },
    responses: async () => (await client.responses.create(answer)).output_text,
    'responses, streamed': async () => (await client.responses.stream(answer).finalResponse()).output_text,
  };
}

function anthropic({ model, parameters, prompt, tokens, url }: Given): Operations {
  const client = new Anthropic({ baseURL: url, apiKey: 'none', maxRetries: 0 });
  const ask = {
    model,
    max_tokens: tokens,
    messages: [{ role: 'user' as const, content: prompt }],
    temperature: 0,
  };
  const textOf = ({ content }: Anthropic.Message): string =>
    content.map((block) => (block.type === 'text' ? block.text : '')).join('');
  return {
    messages: async () => textOf(await client.messages.create(ask)),
    'messages, streamed': async () => textOf(await client.messages.stream(ask).finalMessage()),
    'messages with a tool that must be called': async () => {
      const tools = [{ name: 'weather', input_schema: { ...parameters, type: 'object' as const } }];
      const body = { ...ask, max_tokens: 300, tools, tool_choice: { type: 'any' as const } };
      const call = (await client.messages.create(body)).content.find(({ type }) => type === 'tool_use');
      return (call as Anthropic.ToolUseBlock | undefined)?.input;
    },
  };
}

function huggingFace({ model, prompt, tokens, url }: Given): Operations {
  const client = new InferenceClient(undefined, { endpointUrl: `${url}/v1` });
  const ask = { model, messages: [{ role: 'user', content: prompt }], max_tokens: tokens, temperature: 0 };
  return {
    chatCompletion: async () => (await client.chatCompletion(ask)).choices[0]!.message.content,
    chatCompletionStream: async () => {
      let text = '';
      for await (const { choices } of client.chatCompletionStream(ask))
        text += choices[0]?.delta.content ?? '';
      return text;
    },
    textGeneration: async () => {
      const parameters = { max_new_tokens: tokens, temperature: 0 };
      return (await client.textGeneration({ model, inputs: prompt, parameters })).generated_text;
    },
  };
}
