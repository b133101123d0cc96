/**
 * OpenAI's body of a chat, with vLLM's extra fields → GenerateRequests.
 *
 * In      parsed JSON
 * Out     one request a choice
 * Limits  those of a completion (requests/completion-request.ts); MAX_MESSAGES
 * Errors  InvalidInput, as a completion's
 * Source  OpenAI API reference; vLLM's "extra parameters"
 */
import { type Static, Type } from '@sinclair/typebox';
import { answerForm } from '../../../requests/answer-form.js';
import {
  type AnswerPlan,
  COMPLETION_ALONE,
  choiceRequests,
  commonNames,
  promptLogprobsRefusal,
  refuseNames,
  UNSERVED,
} from '../../../requests/completion-request.js';
import type { ChatOptions, GenerateRequest, Prompt } from '../../../requests/generate-request.js';
import { InvalidInput } from '../../../requests/invalid-input.js';
import { fields } from '../../../requests/sampling-fields.js';
import type { Target } from '../../../requests/target.js';
import { type Checked, compileValidator } from '../../../requests/validation.js';
import { chatMessages, Message } from './chat-messages.js';
import { type ToolBody, ToolFields, toolUse, withAllowedTools } from './chat-tools.js';

const MAX_MESSAGES = 4096;

const optional = Type.Optional;

export const ChatBody = Type.Object({
  ...commonNames,
  ...ToolFields,
  messages: Type.Array(Message, { minItems: 1, maxItems: MAX_MESSAGES }),
  add_generation_prompt: optional(Type.Boolean()),
  continue_final_message: optional(Type.Boolean()),
  chat_template_kwargs: optional(Type.Record(Type.String({ maxLength: 256 }), Type.Unknown())),
  reasoning_effort: optional(Type.String({ minLength: 1, maxLength: 64 })),
  include_reasoning: optional(Type.Boolean()),
  max_completion_tokens: optional(fields.maxNewTokens),
  logprobs: optional(Type.Boolean()),
  top_logprobs: optional(fields.topLogprobs),
});
export type ChatBody = Static<typeof ChatBody>;

const chatValidator = compileValidator(ChatBody);

export function checkChatBody(body: unknown): Checked<ChatBody> {
  // A chat's template writes the special tokens.
  const neutral = { ...UNSERVED, ...COMPLETION_ALONE, best_of: [1], add_special_tokens: [false] };
  const refused = refuseNames(body, neutral);
  if (refused !== null) return { error: refused };
  let allowed = body;
  try {
    if (typeof body === 'object' && body !== null) allowed = withAllowedTools({ ...body });
  } catch (error) {
    if (error instanceof InvalidInput) return { error };
    throw error;
  }
  const checked = chatValidator.check(allowed);
  if ('error' in checked) return checked;
  const { add_generation_prompt, continue_final_message, logprobs, top_logprobs } = checked.value;
  if (top_logprobs !== undefined && logprobs !== true) {
    return { error: new InvalidInput('top_logprobs needs logprobs to be true', 'top_logprobs') };
  }
  const refusal = promptLogprobsRefusal(checked.value);
  if (refusal !== null) return { error: refusal };
  if (continue_final_message === true && add_generation_prompt === true) {
    const error = 'continue_final_message and add_generation_prompt cannot both be true';
    return { error: new InvalidInput(error, 'continue_final_message') };
  }
  return formChecked(checked);
}

/** What a chat's tools and its model's way to answer make of its requests. */
export interface ChatPlan extends AnswerPlan {
  /** Unless the body says otherwise. */
  skipSpecialTokens: boolean;
}

const FREE_CHAT: ChatPlan = { constraint: null, behind: null, skipSpecialTokens: true };

/** What the template is told besides the messages. */
export function chatOptions(body: Omit<ChatBody, 'messages'>): ChatOptions {
  const { chat_template_kwargs: others, reasoning_effort: effort, tools } = body;
  const continues = body.continue_final_message === true;
  return {
    ...(tools && tools.length > 0 && { tools }),
    ...((continues || body.add_generation_prompt === false) && { addGenerationPrompt: false }),
    ...(continues && { continueFinalMessage: true }),
    ...((others ?? effort) !== undefined && {
      templateOptions: { ...effortOf(effort), ...others },
    }),
  };
}

/** What a template knows of it is an effort, or a switch. */
const effortOf = (effort: string | undefined) => ({
  ...(effort !== undefined && { reasoning_effort: effort }),
  ...(effort === 'none' && thinkingSwitch(false)),
});

/** As the templates of Qwen 3 and DeepSeek V3.1 are told. */
export const thinkingSwitch = (thinks: boolean) => ({ enable_thinking: thinks, thinking: thinks });

/** @param plan what is known of the model's answers */
export function chatRequests(body: ChatBody, target: Target, plan: ChatPlan = FREE_CHAT): GenerateRequest[] {
  const prompt: Prompt = { kind: 'chat', messages: chatMessages(body.messages), ...chatOptions(body) };
  return choiceRequests(
    { skip_special_tokens: plan.skipSpecialTokens, ...body },
    target,
    prompt,
    {
      maxNewTokens: body.max_completion_tokens ?? body.max_tokens ?? null,
      logprob: body.logprobs ?? false,
      topLogprobs: body.top_logprobs ?? 0,
      ...(body.prompt_logprobs !== undefined && { promptLogprobs: body.prompt_logprobs }),
    },
    plan,
  );
}

/** What its types cannot say of the form of an answer. */
function formChecked(checked: { value: ChatBody }): Checked<ChatBody> {
  try {
    const form = answerForm(checked.value);
    const { constraint } = toolUse(checked.value as ToolBody);
    if (form === null || constraint === null) return checked;
    const error = 'tool_choice and a form of the answer cannot both be asked for';
    return { error: new InvalidInput(error, 'tool_choice') };
  } catch (error) {
    if (error instanceof InvalidInput) return { error };
    throw error;
  }
}
