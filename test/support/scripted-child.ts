/**
 * A program at the other end of a ChildLink that does what it is told, and nothing else: a question is answered when the test says so.
 *
 * In      ToScripted on its channel
 * Out     FromScripted; a file, when what was said before has left this process
 */
import { writeFileSync } from 'node:fs';

export type ToScripted =
  | { do: 'question' }
  /** Sends it. */
  | { do: 'say'; word: string }
  /** Sends it and is killed by itself, at once. */
  | { do: 'last'; word: string }
  /** Sends it, then makes a file. */
  | { do: 'say and mark'; word: string; file: string };
export interface FromScripted {
  word: string;
}

const say = (word: string): boolean | undefined => process.send?.({ word } satisfies FromScripted);

process.on('message', (message: ToScripted) => {
  if (message.do === 'question') return;
  say(message.word);
  if (message.do === 'last') process.kill(process.pid, 'SIGKILL');
  if (message.do === 'say and mark') writeFileSync(message.file, '');
});
process.on('disconnect', () => process.exit(0));
