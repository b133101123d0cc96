/**
 * A program that loads the checkpoints it is told of, as the server and the partitioner would, and says what came of each: a
 * crash, a hang or memory without end take this process, not the test's.
 *
 * In      messages: a folder, and the store for its shards
 * Out     a LoadReport for each
 */
import fs, { realpathSync, rmSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import path from 'node:path';
import { ServingError } from '../../proto/errors.js';
import { repositoryRoot } from './repository-root.js';

export interface LoadTask {
  folder: string;
  store: string;
}

export interface LoadReport {
  /** What the text side and the weights side ended with. */
  outcomes: Outcome[];
  /** Files that were opened beside the folder, the store and the program. */
  outside: string[];
  peakBytes: number;
}

export interface Outcome {
  side: 'text' | 'plan' | 'shards';
  /** null: it loaded. */
  code: string | null;
  message: string;
  stack: string;
}

/** Where files may be opened. */
let allowed: string[] = [];
const outside = new Set<string>();
const { openSync, readFileSync } = fs;

function watch(file: unknown): void {
  if (typeof file !== 'string') return;
  const place = path.resolve(file);
  // The program's own start, which its lock files name.
  if (/^\/proc\/\d+\/stat$/.test(place)) return;
  if (!allowed.some((root) => place.startsWith(root))) outside.add(place);
}

fs.openSync = (file, ...rest) => {
  watch(file);
  return openSync(file, ...rest);
};
fs.readFileSync = ((file: fs.PathOrFileDescriptor, options?: BufferEncoding) => {
  watch(file);
  return readFileSync(file, options);
}) as typeof readFileSync;
syncBuiltinESMExports();

// After the change: they import what is changed.
const { partition, planPartition } = await import('../../partitioner/partition.js');
const { ChatTemplate, readChatTemplate } = await import('../../server/text/chat-template.js');
const { Tokenizer } = await import('../../server/text/tokenizer.js');

const TEXTS = [
  '',
  'a',
  'Once upon a time\n',
  ' é 日本 👩‍👩‍👧 <s></s>[MASK]<|endoftext|>',
  '\ud800 a\u0000',
  'aaaaaaaa '.repeat(50),
];

async function loadTexts(folder: string): Promise<void> {
  const tokenizer = await Tokenizer.load(folder);
  for (const text of TEXTS) {
    const ids = tokenizer.encode(text);
    if (ids.some((id) => !Number.isInteger(id) || id < 0 || id >= tokenizer.vocabSize))
      throw new Error(`ids ${ids.slice(0, 20).join()} of ${tokenizer.vocabSize}`);
    const some = ids.slice(0, 50);
    tokenizer.decode(some);
    some.slice(0, 5).map((id) => tokenizer.tokenText(id));
    const stream = tokenizer.detokenizer({ skipSpecialTokens: false });
    for (const id of some) stream.push(id);
    stream.flush();
  }
  const source = readChatTemplate(folder, null);
  if (source === null) return;
  try {
    new ChatTemplate(source).render([{ role: 'user', content: 'Hi' }], { addGenerationPrompt: true });
  } catch (error) {
    // The request's failure, not the load's.
    if (!(error instanceof ServingError && ['BAD_REQUEST', 'CHAT_TEMPLATE_LIMIT'].includes(error.code)))
      throw error;
  }
}

async function outcomeOf(side: Outcome['side'], work: () => Promise<unknown>): Promise<Outcome> {
  try {
    await work();
    return { side, code: null, message: '', stack: '' };
  } catch (error) {
    const { message, stack = '' } = error as Error;
    return {
      side,
      code: error instanceof ServingError ? error.code : 'INTERNAL',
      message,
      stack: stack.slice(0, 1500),
    };
  }
}

process.on('message', async ({ folder, store }: LoadTask) => {
  allowed = [folder, store, repositoryRoot, realpathSync(repositoryRoot)];
  outside.clear();
  const options = { folder, outStore: store, tp: 1, dtype: 'fp32' as const };
  const outcomes = [
    await outcomeOf('text', () => loadTexts(folder)),
    await outcomeOf('plan', () => planPartition(options)),
    await outcomeOf('shards', () => partition(options)),
  ];
  rmSync(store, { recursive: true, force: true });
  process.send!({
    outcomes,
    outside: [...outside],
    peakBytes: process.resourceUsage().maxRSS * 1024,
  } satisfies LoadReport);
});
