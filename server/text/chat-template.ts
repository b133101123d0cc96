/**
 * Messages of a chat to the one text that the model was tuned on, by the checkpoint's Jinja template.
 *
 * In      an override from the configuration, else chat_template.jinja, else `chat_template` of tokenizer_config.json (one text,
 *         or a list of named ones: `default`, and `tool_use` for requests with tools)
 * Out     prompt text with its special tokens spelled out: encode it with addSpecialTokens false, or begin-of-text comes twice
 * Errors  load: CHECKPOINT_INVALID when the template does not parse; render: BAD_REQUEST with the template's own words when it
 *         refuses the messages ("Conversation roles must alternate …")
 * Limits  the template is code of the checkpoint: it sees the messages and special tokens, no file and no function of ours
 */
import path from 'node:path';
import { Template } from '@huggingface/jinja';
import { ServingError } from '../../proto/errors.js';
import { isObject, readJsonObject, readTextFile } from './checkpoint-text-file.js';

const SPECIAL_TOKENS = [
  'bos_token',
  'eos_token',
  'unk_token',
  'pad_token',
  'sep_token',
  'cls_token',
  'mask_token',
];

type SpecialTokens = Readonly<Record<string, string | readonly string[]>>;

/** A message as templates read it; jobs' ChatMessage is one. */
export interface TemplateMessage {
  role: string;
  content: string;
  [field: string]: unknown;
}

export class ChatTemplate {
  private readonly template: Template;
  private readonly toolTemplate: Template;
  private readonly specialTokens: SpecialTokens;

  private constructor(template: Template, toolTemplate: Template, specialTokens: SpecialTokens) {
    this.template = template;
    this.toolTemplate = toolTemplate;
    this.specialTokens = specialTokens;
  }

  /**
   * @param modelFolder absolute path of the checkpoint
   * @param override Jinja text of the configuration; null: the checkpoint's
   * @returns null when the checkpoint has none
   * @throws ServingError CHECKPOINT_INVALID
   */
  static load(modelFolder: string, override: string | null): ChatTemplate | null {
    const config = readJsonObject(path.join(modelFolder, 'tokenizer_config.json')) ?? {};
    const named =
      override !== null
        ? new Map([['default', override]])
        : namedTemplates(config.chat_template, readTextFile(path.join(modelFolder, 'chat_template.jinja')));
    const text = named.get('default');
    if (text === undefined) return null;
    const template = parse(text);
    const toolText = named.get('tool_use');
    const toolTemplate = toolText === undefined ? template : parse(toolText);
    return new ChatTemplate(template, toolTemplate, specialTokensOf(config));
  }

  /**
   * The prompt of a chat.
   *
   * @param options.addGenerationPrompt end with what opens the assistant's turn
   * @throws ServingError BAD_REQUEST when the template refuses the messages
   */
  render(
    messages: readonly TemplateMessage[],
    options: { addGenerationPrompt: boolean; tools?: readonly unknown[] },
  ): string {
    const hasTools = options.tools !== undefined && options.tools.length > 0;
    try {
      return (hasTools ? this.toolTemplate : this.template).render({
        ...this.specialTokens,
        messages,
        tools: hasTools ? options.tools : null,
        documents: null,
        add_generation_prompt: options.addGenerationPrompt,
      });
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new ServingError('BAD_REQUEST', `The model's chat template refuses these messages: ${reason}`, {
        cause: error,
      });
    }
  }
}

function parse(text: string): Template {
  try {
    return new Template(text);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
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
