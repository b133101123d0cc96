/**
 * Messages of a chat to the one text that the model was tuned on, by the checkpoint's Jinja template.
 *
 * In      an override from the configuration, else chat_template.jinja, else `chat_template` of tokenizer_config.json (one text,
 *         or a list of named ones: `default`, and `tool_use` for requests with tools)
 * Out     prompt text with its special tokens spelled out: encode it with addSpecialTokens false, or begin-of-text comes twice
 * Errors  CHECKPOINT_INVALID when the template does not parse; render: BAD_REQUEST with the template's own words when it
 *         refuses the messages ("Conversation roles must alternate …"), CHAT_TEMPLATE_LIMIT when JavaScript's stack or longest text ends it
 *         A developer's messages are the system's where the template knows no developers, and the system's then one, the first: strict
 *         templates know it nowhere else
 * Limits  none of its own: the template is code of the checkpoint, which sees the messages and special tokens, no file and no function
 *         of ours, but may run for ever. The server renders in a process (engines/llm/chat-renderer.ts)
 */

import path from 'node:path';
import { Template } from '@huggingface/jinja';
import { ServingError } from '../../proto/errors.js';
import { isObject } from '../../proto/is-object.js';
import { readTextFile } from './checkpoint-text-file.js';
import { readTokenizerConfig, textFolder } from './tokenizer-config.js';

const SPECIAL_TOKENS = [
  'bos_token',
  'eos_token',
  'unk_token',
  'pad_token',
  'sep_token',
  'cls_token',
  'mask_token',
];

/** The template's own words in an error: they may be as long as it likes. */
const MAX_REASON_CHARACTERS = 1000;

type SpecialTokens = Readonly<Record<string, string | readonly string[]>>;

/** A message as templates read it; jobs' ChatMessage is one. */
export interface TemplateMessage {
  role: string;
  content: string;
  [field: string]: unknown;
}

/** What a checkpoint has of templates, unparsed: plain data, which can be sent to another process. */
export interface ChatTemplateSource {
  text: string;
  /** For requests with tools; null: `text`. */
  toolText: string | null;
  specialTokens: SpecialTokens;
}

export interface RenderOptions {
  /** End with what opens the assistant's turn. */
  addGenerationPrompt: boolean;
  tools?: readonly unknown[];
  /** The text ends where the last message's does, so that it goes on. */
  continueFinalMessage?: boolean;
  /** Variables of the template's own (enable_thinking, documents, …); they cannot take the place of the others. */
  templateOptions?: Readonly<Record<string, unknown>>;
}

/**
 * @param modelFolder absolute path of the checkpoint
 * @param override Jinja text of the configuration; null: the checkpoint's
 * @returns null when the checkpoint has none
 * @throws ServingError CHECKPOINT_INVALID
 */
export function readChatTemplate(modelFolder: string, override: string | null): ChatTemplateSource | null {
  const config = readTokenizerConfig(modelFolder);
  const named =
    override !== null
      ? new Map([['default', override]])
      : namedTemplates(
          config.chat_template,
          readTextFile(path.join(textFolder(modelFolder), 'chat_template.jinja')),
        );
  const text = named.get('default');
  if (text === undefined) return null;
  return { text, toolText: named.get('tool_use') ?? null, specialTokens: specialTokensOf(config) };
}

export class ChatTemplate {
  readonly #template: Template;
  readonly #toolTemplate: Template;
  readonly #specialTokens: SpecialTokens;
  readonly #knowsDevelopers: boolean;

  /** @throws ServingError CHECKPOINT_INVALID */
  constructor({ specialTokens, text, toolText }: ChatTemplateSource) {
    this.#template = parse(text);
    this.#toolTemplate = toolText === null ? this.#template : parse(toolText);
    this.#specialTokens = specialTokens;
    this.#knowsDevelopers = `${text}${toolText ?? ''}`.includes('developer');
  }

  /**
   * The prompt of a chat.
   *
   * @throws ServingError BAD_REQUEST when the template refuses the messages
   */
  render(messages: readonly TemplateMessage[], options: RenderOptions): string {
    const known = this.#knowsDevelopers ? messages : withoutDevelopers(messages);
    const text = this.#renderWhole(known, options);
    return options.continueFinalMessage === true ? upToFinalMessage(text, known) : text;
  }

  #renderWhole(messages: readonly TemplateMessage[], options: RenderOptions): string {
    const hasTools = options.tools !== undefined && options.tools.length > 0;
    try {
      return (hasTools ? this.#toolTemplate : this.#template).render({
        documents: null,
        ...options.templateOptions,
        ...this.#specialTokens,
        messages,
        tools: hasTools ? options.tools : null,
        add_generation_prompt: options.addGenerationPrompt,
      });
    } catch (error) {
      const reason = (error instanceof Error ? error.message : String(error)).slice(0, MAX_REASON_CHARACTERS);
      // A text or a stack that JavaScript cannot hold.
      const isLimit = error instanceof RangeError;
      throw new ServingError(
        isLimit ? 'CHAT_TEMPLATE_LIMIT' : 'BAD_REQUEST',
        `The model's chat template ${isLimit ? 'grows too far with' : 'refuses'} these messages: ${reason}`,
        { cause: error },
      );
    }
  }
}

function withoutDevelopers(messages: readonly TemplateMessage[]): readonly TemplateMessage[] {
  if (!messages.some(({ role }) => role === 'developer')) return messages;
  const isOrder = ({ role }: TemplateMessage): boolean => role === 'system' || role === 'developer';
  const content = messages
    .filter(isOrder)
    .map((one) => one.content)
    .join('\n\n');
  return [{ role: 'system', content }, ...messages.filter((one) => !isOrder(one))];
}

/** As transformers' continue_final_message does. @throws ServingError BAD_REQUEST */
function upToFinalMessage(text: string, messages: readonly TemplateMessage[]): string {
  const content = messages.at(-1)?.content.trim() ?? '';
  const at = content === '' ? -1 : text.lastIndexOf(content);
  if (at >= 0) return text.slice(0, at + content.length);
  throw new ServingError(
    'BAD_REQUEST',
    "continue_final_message needs a last message whose content stands in the chat template's text as it is",
  );
}

function parse(text: string): Template {
  try {
    return new Template(text);
  } catch (error) {
    const reason = (error instanceof Error ? error.message : String(error)).slice(0, MAX_REASON_CHARACTERS);
    throw new ServingError('CHECKPOINT_INVALID', `The chat template is not valid Jinja: ${reason}`, {
      cause: error,
    });
  }
}

function namedTemplates(field: unknown, file: string | null): Map<string, string> {
  const named = new Map<string, string>();
  if (typeof field === 'string') {
    named.set('default', field);
  } else if (Array.isArray(field)) {
    for (const entry of field) {
      if (!isObject(entry) || typeof entry.name !== 'string' || typeof entry.template !== 'string') {
        throw new ServingError(
          'CHECKPOINT_INVALID',
          "An entry of 'chat_template' in tokenizer_config.json has no name and template",
        );
      }
      named.set(entry.name, entry.template);
    }
  } else if (field !== undefined && field !== null) {
    throw new ServingError(
      'CHECKPOINT_INVALID',
      "'chat_template' in tokenizer_config.json is neither a text nor a list of named texts",
    );
  }
  if (file !== null) named.set('default', file);
  return named;
}

/** Special tokens by their names, as text; tokenizer_config.json holds them as a text or as an object with `content`. */
function specialTokensOf(config: Record<string, unknown>): SpecialTokens {
  // Templates concatenate them, so that a missing one is an empty text, not "None".
  const tokens: Record<string, string | string[]> = { bos_token: '', eos_token: '' };
  for (const name of SPECIAL_TOKENS) {
    const text = tokenText(config[name]);
    if (text !== null) tokens[name] = text;
  }
  if (Array.isArray(config.additional_special_tokens)) {
    tokens.additional_special_tokens = config.additional_special_tokens
      .map(tokenText)
      .filter((text) => text !== null);
  }
  return tokens;
}

function tokenText(value: unknown): string | null {
  const text = isObject(value) ? value.content : value;
  return typeof text === 'string' ? text : null;
}
