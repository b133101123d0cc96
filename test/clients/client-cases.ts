/**
 * Other people's clients, what each is asked to do, and what must come of it: one row an operation of CONFORMANCE.md.
 *
 * A program of test/clients/programs runs the operations of its client and tells what each gave.
 */

import { readFileSync } from 'node:fs';
import path from 'node:path';
import { repositoryRoot } from '../support/repository-root.js';

/** `text`: the same greedy text as DJLServing's path gives; `arguments`: JSON, or an object, that is valid to the tool's schema; else the value itself. */
export type Expected = 'text' | 'arguments' | { value: unknown };

export interface ClientCase {
  /** NAME of the program NAME_client.py, or of what node-clients.ts has by it. */
  program: string;
  /** Package and version: for pip, or of our own package.json; of a command only its name and version. */
  requirement: string;
  kind?: 'pip' | 'npm' | 'command';
  /** Variable of the environment that names the command, where the machine has none; without it the case is skipped. */
  command?: string;
  dialect: string;
  operations: Readonly<Record<string, Expected>>;
}

/** As our own package.json pins it. */
function npm(name: string): string {
  const { devDependencies } = JSON.parse(readFileSync(path.join(repositoryRoot, 'package.json'), 'utf8'));
  return `${name}==${(devDependencies as Record<string, string>)[name]}`;
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
      'a developer, and one of two tools that is allowed': 'arguments',
      'which of two stop texts ended it': { value: ' ' },
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
      models: { value: [MODEL] },
    },
  },
  {
    ...{ program: 'huggingface_hub', requirement: 'huggingface_hub==0.36.2', dialect: 'OpenAI, TGI' },
    operations: {
      chat_completion: 'text',
      'chat_completion, streamed': 'text',
      'chat_completion of no model by name': 'text',
      'chat_completion in a JSON schema': 'arguments',
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
      'infer: finish reason, tokens out': { value: ['length', TOKENS] },
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
    operations: {
      invoke_endpoint: 'text',
      invoke_endpoint_with_response_stream: 'text',
      'invoke_endpoint of one of many models (TargetModel)': 'text',
      'a session: opened, asked, closed, asked no more': 'text',
    },
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
      dialect: 'KServe: V1, Open Inference Protocol by HTTP and gRPC',
    },
    operations: {
      'REST v1: model ready': { value: true },
      'REST v1: predict': { value: [3, -2] },
      'REST v1: explain': { value: [[0, 2, 0], [-3]] },
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
    ...{ program: 'vllm_bench', requirement: 'vllm==0.32.0', dialect: 'OpenAI' },
    ...{ kind: 'command', command: 'VLLM' },
    operations: { 'bench serve, 12 requests of 8 tokens, 4 at once': { value: [12, 96] } },
  },
  {
    ...{ program: 'openai-npm', requirement: npm('openai'), kind: 'npm', dialect: 'OpenAI' },
    operations: {
      completions: 'text',
      'completions, streamed': 'text',
      chat: 'text',
      'chat, streamed': 'text',
      'three turns with a tool that must be called': 'arguments',
      responses: 'text',
      'responses, streamed': 'text',
    },
  },
  {
    ...{ program: 'anthropic-npm', requirement: npm('@anthropic-ai/sdk'), kind: 'npm', dialect: 'Anthropic' },
    operations: {
      messages: 'text',
      'messages, streamed': 'text',
      'messages with a tool that must be called': 'arguments',
    },
  },
  {
    ...{
      program: 'huggingface-npm',
      requirement: npm('@huggingface/inference'),
      kind: 'npm',
      dialect: 'OpenAI',
    },
    operations: { chatCompletion: 'text', chatCompletionStream: 'text', textGeneration: 'text' },
  },
  {
    ...{ program: 'torchserve_curl', requirement: 'curl', kind: 'command', dialect: 'TorchServe' },
    operations: {
      ping: { value: 'Healthy' },
      'API description': { value: '3.0.1' },
      'predictions, -T FILE': { value: 3 },
      'predictions, -F data=@FILE': { value: 3 },
      'predictions of a version': { value: '1.0' },
      'predictions of a language model': 'text',
      explanations: { value: [0, 2, 0] },
      "KServe's :predict": { value: [3, -2] },
      models: { value: ['mood', 'story'] },
      'register, scale, describe (customized), set-default, unregister': {
        value: [
          'Model "mood" Version: 2.0 registered with 0 initial workers. Use scale workers API to add workers for the model.',
          'Workers scaled to 1 for model: mood, version: 2.0',
          ['1.0', '2.0'],
          { trainedOn: 'two words', version: '2.0' },
          'Default version successfully updated for model "mood" to "2.0"',
          '2.0',
          'Default version successfully updated for model "mood" to "1.0"',
          'Model "mood" unregistered',
        ],
      },
      'metrics by name': { value: ['ts_inference_requests_total'] },
    },
  },
  {
    ...{ program: 'torchserve_grpcurl', requirement: 'grpcurl==1.9.3', dialect: 'TorchServe, gRPC' },
    ...{ kind: 'command', command: 'GRPCURL' },
    operations: {
      'list (reflection)': {
        value: [
          'org.pytorch.serve.grpc.inference.InferenceAPIsService',
          'org.pytorch.serve.grpc.openinference.GRPCInferenceService',
        ],
      },
      'describe (reflection)': { value: true },
      Ping: { value: 'Healthy' },
      'Predictions of a handler': { value: 3 },
      'Predictions of a language model': 'text',
      StreamPredictions: 'text',
      'RegisterModel, ScaleWorker, DescribeModel (customized), SetDefault, ListModels, UnregisterModel': {
        value: [
          'Model "third" Version: 1.0 registered with 0 initial workers. Use scale workers API to add workers for the model.',
          'Workers scaled to 1 for model: third',
          { trainedOn: 'two words', version: '1.0' },
          'Default version successfully updated for model "third" to "1.0"',
          true,
          'Model "third" unregistered',
        ],
      },
      'DescribeModel of none': { value: ['Code: NotFound', 'Message: Model not found: third'] },
      'Open Inference Protocol: ModelInfer': 'text',
    },
  },
];

/** What lm_eval reads a tokenizer with. */
export const MORE_REQUIREMENTS = ['transformers==4.57.6'];
