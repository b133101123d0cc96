/**
 * Other people's clients, what each is asked to do, and what must come of it: one row an operation of CONFORMANCE.md.
 *
 * A program of test/clients/programs runs the operations of its client and tells what each gave.
 */

/** `text`: the same greedy text as DJLServing's path gives; `arguments`: JSON, or an object, that is valid to the tool's schema; else the value itself. */
export type Expected = 'text' | 'arguments' | { value: unknown };

export interface ClientCase {
  /** NAME of the program NAME_client.py. */
  program: string;
  /** For pip, unless the program is a command of its own. */
  requirement: string;
  /** Variable of the environment that names the command, where pip is not asked for it; without it the case is skipped. */
  command?: string;
  dialect: string;
  operations: Readonly<Record<string, Expected>>;
}

export const MODEL = 'teller';
export const PROMPT = 'Once upon a time';
export const TOKENS = 12;

export const CLIENT_CASES: readonly ClientCase[] = [
  {
    ...{ program: 'openai', requirement: 'openai==3.57.0', dialect: 'OpenAI' },
    operations: {
      completions: 'text',
      'completions, streamed': 'text',
      'completions with echo and logprobs': { value: PROMPT },
      chat: 'text',
      'chat, streamed': 'text',
      'chat with a tool that must be called': 'arguments',
      'the same, streamed': 'arguments',
      'chat in a JSON schema': 'arguments',
      responses: 'text',
      'responses, streamed': 'text',
      models: { value: [MODEL] },
      'an expression that is none': { value: 400 },
    },
  },
  {
    ...{ program: 'anthropic', requirement: 'anthropic==2.14.0', dialect: 'Anthropic' },
    operations: {
      messages: 'text',
      'messages, streamed': 'text',
      'messages with a tool that must be called': 'arguments',
      count_tokens: { value: true },
    },
  },
  {
    ...{ program: 'huggingface_hub', requirement: 'huggingface_hub==0.36.2', dialect: 'OpenAI, TGI' },
    operations: {
      chat_completion: 'text',
      'chat_completion, streamed': 'text',
      text_generation: 'text',
      'text_generation, streamed': 'text',
      'text_generation with details': { value: TOKENS },
    },
  },
  {
    ...{ program: 'text_generation', requirement: 'text-generation==0.7.0', dialect: 'TGI' },
    operations: { generate: 'text', generate_stream: 'text', 'generate with details': { value: TOKENS } },
  },
  {
    ...{
      program: 'tritonclient_grpc',
      requirement: 'tritonclient[all]==2.73.0',
      dialect: 'Open Inference Protocol, gRPC',
    },
    operations: {
      'live, ready, model ready': { value: [true, true, true] },
      metadata: { value: ['text_input'] },
      infer: 'text',
      'stream_infer, decoupled': 'text',
      'repository index': { value: [MODEL] },
    },
  },
  {
    ...{ program: 'litellm', requirement: 'litellm==1.110.2', dialect: 'OpenAI, Anthropic' },
    operations: {
      'completion (OpenAI)': 'text',
      'completion, streamed': 'text',
      'completion (Anthropic)': 'text',
    },
  },
  {
    ...{ program: 'langchain_openai', requirement: 'langchain-openai==1.7.4', dialect: 'OpenAI' },
    operations: {
      invoke: 'text',
      stream: 'text',
      bind_tools: 'arguments',
      with_structured_output: 'arguments',
    },
  },
  {
    ...{ program: 'boto3', requirement: 'boto3==1.44.8', dialect: 'SageMaker' },
    operations: { invoke_endpoint: 'text', invoke_endpoint_with_response_stream: 'text' },
  },
  {
    ...{
      program: 'tritonclient_http',
      requirement: 'tritonclient[all]==2.73.0',
      dialect: 'Open Inference Protocol, HTTP',
    },
    operations: {
      'live, ready, model ready': { value: [true, true, true] },
      metadata: { value: ['text_input'] },
      'infer, binary': 'text',
      'infer, JSON': 'text',
      'repository index': { value: [MODEL] },
    },
  },
  {
    ...{
      program: 'kserve',
      requirement: 'kserve==0.21.0',
      dialect: 'Open Inference Protocol, HTTP and gRPC',
    },
    operations: {
      'REST v2: live, ready, model ready': { value: [true, true, true] },
      'REST v2: infer': 'text',
      'gRPC: live, ready, model ready': { value: [true, true, true] },
      'gRPC: infer': 'text',
    },
  },
  {
    ...{ program: 'lm_eval', requirement: 'lm_eval[api]==0.4.13', dialect: 'OpenAI' },
    operations: {
      // Greedy, and as likely as its tokens were.
      'loglikelihood of the greedy text (echo and logprobs)': { value: [true, true] },
      'loglikelihood of another text': { value: false },
      generate_until: 'text',
    },
  },
  {
    ...{ program: 'vllm_bench', requirement: 'vllm==0.32.0', dialect: 'OpenAI', command: 'VLLM' },
    operations: { 'bench serve, 12 requests of 8 tokens, 4 at once': { value: [12, 96] } },
  },
];

/** What lm_eval reads a tokenizer with. */
export const MORE_REQUIREMENTS = ['transformers==4.57.6'];
