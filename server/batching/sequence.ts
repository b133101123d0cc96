/**
 * A running sequence on the server: what is planned of it, and how its tokens become text and events.
 *
 * In      a job and its slot; chosen tokens in order
 * Out     TokenEvents and the FinishEvent on the job's stream
 * Limits  the job's maxNewTokens
 * Errors  assertions
 *
 * The text of the token that ended the sequence (an end id) is left out unless includeStopString; the token is counted.
 * All go on before the result of their last step has come, but for those whose tokens are guessed (drafts.ts): what follows depends on the
 * last. A constrained one goes on too, and its mask follows while the step runs, since what its next token may be is known only after the
 * last; not where the group cannot be told masks, nor for a while after a mask that came too late. Those that do not run ahead are in a
 * step only when what they wait for is there.
 * Tokens that ran after a stop string (the workers are a step ahead) never get here: the sequence has left the loop by then.
 */
import assert from 'node:assert/strict';
import type { ChosenToken, Row, SequenceOpen, TokenMask } from '../../proto/control.js';
import { Finish } from '../../proto/control.js';
import { ServingError } from '../../proto/errors.js';
import type { GenerationJob } from '../jobs/generation-job.js';
import type { GenerateRequest } from '../requests/generate-request.js';
import type { FinishReason, TokenAlternative, TokenText } from '../requests/job-events.js';
import { StopStrings } from '../text/stop-strings.js';
import type { RunningSequence } from './batcher.js';
import type { DraftOptions } from './drafts.js';
import { stoppedBy } from './stopped-by.js';
import type { TokenTexts } from './token-texts.js';

/** Prompt tokens that the detokeniser sees before the first new one. */
const CONTEXT_TOKENS = 4;

/** New tokens for which a sequence does not run ahead after its first mask that came too late. */
const LATE_MASK_TOKENS = 8;

/** What a row says beside its tokens. */
export type RowParts = Pick<Row, 'mask' | 'draftIds' | 'maskFollows'>;

export class Sequence implements RunningSequence {
  readonly job: GenerationJob;
  slot: number;
  /** Unique in the life of the group; another one after it was preempted. */
  sequence: number;
  promptLeft: number;
  decodesLeft: number;
  /** Its prompt waits for another's (prefix cache). */
  held = false;
  /** What is computed before its next new token: the prompt, and after it was preempted the tokens that it had made. */
  inputIds: readonly number[];
  /** It is preempted, and its slot is parked with so many rows of its input; 0: it begins anew. */
  parkedRows = 0;
  /** Prompt tokens that were not computed for it. */
  cachedTokens = 0;
  /** null while it runs. */
  finish: FinishReason | null = null;
  readonly #request: GenerateRequest;
  readonly #texts: TokenTexts;
  readonly #detokenizer: ReturnType<TokenTexts['detokenizer']>;
  readonly #stops: StopStrings;
  #generatedText = '';
  readonly #newIds: number[] = [];
  /** Bounds the next token, where it is constrained; null: not known yet. */
  #mask: TokenMask | null;
  /** It is constrained, and may run ahead all the same. */
  readonly #mayFollow: boolean;
  /** Masks that came too late, and from which new token on it runs ahead again. */
  #lateMasks = 0;
  #aheadFrom = 0;
  /** Rows in flight that choose, where it runs ahead; and whether the first of them has the mask. */
  #rowsAhead = 0;
  #isMaskTold = false;
  /** null: nothing is guessed of it. */
  readonly #drafts: DraftOptions | null;
  /** A row that chooses is in flight. */
  #isChoosing = false;
  #maskAskedAtMs: number | null = null;
  /** A token that was waited for may be chosen now: told to the loop that runs it. */
  onMask: () => void;
  /** decodesLeft when its input began. */
  #decodesAtStart: number;

  constructor(
    job: GenerationJob,
    slot: number,
    sequence: number,
    texts: TokenTexts,
    onMask = () => {},
    drafts: DraftOptions | null = null,
    masksFollow = false,
  ) {
    assert(job.request.kind === 'generate', 'a text to embed is no sequence of tokens (text-vector.ts)');
    this.job = job;
    this.#request = job.request;
    this.slot = slot;
    this.sequence = sequence;
    this.inputIds = job.promptIds;
    this.promptLeft = job.promptIds.length;
    this.decodesLeft = job.maxNewTokens - 1;
    this.#decodesAtStart = this.decodesLeft;
    this.#texts = texts;
    this.#drafts = drafts;
    this.#mask = job.constraint?.first ?? null;
    this.#mayFollow = masksFollow && job.constraint !== null && job.toldPrompt === null;
    this.onMask = onMask;
    this.#detokenizer = texts.detokenizer({
      skipSpecialTokens: this.#request.skipSpecialTokens,
      context: [...job.promptIds.slice(-CONTEXT_TOKENS), ...(job.toldPrompt ?? [])].slice(-CONTEXT_TOKENS),
    });
    this.#stops = new StopStrings(this.#request.stopStrings, this.#request.includeStopString);
  }

  get awaits(): boolean {
    if (this.#isChoosing || this.job.constraint === null) return this.#isChoosing;
    return this.#mask === null && this.#rowsAhead === 0;
  }

  /** A row of it that chooses is in a step whose result has not come, and it does not run ahead. */
  get isChoosing(): boolean {
    return this.#isChoosing;
  }

  /** Since when a mask is being made; null: none is. */
  get maskAskedAtMs(): number | null {
    return this.#maskAskedAtMs;
  }

  /** It may be in a step before the token of the one before is known. */
  get runsAhead(): boolean {
    return (this.job.constraint === null || this.#masksFollow) && this.mostDrafts === 0;
  }

  /** The mask that the first of its rows in flight waits for, once. null: none waits, or it is not there yet. */
  takeLateMask(): TokenMask | null {
    if (!this.#waitsForMask || this.#mask === null) return null;
    this.#isMaskTold = true;
    return this.#mask;
  }

  /** Since when a row in flight waits for a mask; null: none does. */
  get lateSinceMs(): number | null {
    return this.#waitsForMask ? this.#maskAskedAtMs : null;
  }

  get #masksFollow(): boolean {
    return this.#mayFollow && this.newTokens >= this.#aheadFrom;
  }

  get #waitsForMask(): boolean {
    return this.#rowsAhead > 0 && !this.#isMaskTold;
  }

  /** It leaves its slot. @returns rows in flight that wait for masks which will not come */
  dropRowsAhead(): number {
    const rows = this.#rowsAhead - (this.#isMaskTold ? 1 : 0);
    this.#rowsAhead = 0;
    this.#isMaskTold = false;
    return rows;
  }

  /** A mask does not come in time: its rows in flight are left out, and it runs ahead no more for twice as long each time. @returns how many */
  stopRunningAhead(): number {
    assert(this.#waitsForMask, 'a row waits for its mask');
    const rows = this.dropRowsAhead();
    this.decodesLeft += rows;
    this.#aheadFrom = this.newTokens + LATE_MASK_TOKENS * 2 ** this.#lateMasks++;
    return rows;
  }

  /** Drafts that may stand behind its tokens in a step: known ones of a prompt that is told, guesses of an answer without constraint. */
  get mostDrafts(): number {
    if (this.#drafts === null) return 0;
    if (this.tellsPrompt) return this.#drafts.perStep;
    return this.job.constraint === null ? this.#drafts.perSequence : 0;
  }

  /** Its next token is one of its prompt. */
  get tellsPrompt(): boolean {
    return this.newTokens < this.#toldTokens;
  }

  get newTokens(): number {
    return this.#newIds.length;
  }

  /** Rows of the input whose keys and values are there once all planned steps have run. */
  get promptRows(): number {
    return this.inputIds.length - this.promptLeft;
  }

  /** Likewise, with those of new tokens. */
  get plannedRows(): number {
    return this.promptRows + this.#decodesAtStart - this.decodesLeft;
  }

  /** Ids of the rows that are surely there: the last token was chosen, perhaps never run. */
  rowIds(): number[] {
    if (this.promptLeft > 0) return this.inputIds.slice(0, this.promptRows);
    return [...this.job.promptIds, ...this.#newIds.slice(0, -1)];
  }

  /** The first `rows` tokens of the input need not be computed. */
  skipTo(rows: number): void {
    assert(rows < this.inputIds.length, 'the last token of a prompt is always computed');
    if (this.newTokens === 0) this.cachedTokens += rows - this.promptRows;
    this.promptLeft = this.inputIds.length - rows;
  }

  /**
   * Its rows are given back, and tokens of steps in flight are not wanted any more: they are chosen again, from the same logits and
   * noise. It waits for a slot like a job whose prompt is its input, and of which `parkedRows` rows are there.
   */
  preempt(): void {
    this.inputIds = [...this.job.promptIds, ...this.#newIds];
    // What others have of its prompt is counted when it begins anew.
    if (this.newTokens === 0 && this.parkedRows === 0) this.cachedTokens = 0;
    this.promptLeft = this.inputIds.length;
    this.decodesLeft = this.job.maxNewTokens - this.newTokens - 1;
    this.#decodesAtStart = this.decodesLeft;
    this.held = false;
    this.#isChoosing = false;
  }

  /** In a slot again; in its own, where that was parked: the rows that it has are not computed again. */
  resume(slot: number, sequence: number): void {
    this.slot = slot;
    this.sequence = sequence;
    this.promptLeft -= this.parkedRows;
    this.parkedRows = 0;
  }

  open(): SequenceOpen {
    const { job, sequence, slot } = this;
    return {
      slot,
      sequence,
      promptIds: [...job.promptIds],
      maxNewTokens: job.maxNewTokens,
      endIds: [...job.endIds],
      sampling: job.sampling,
      ...(this.newTokens > 0 && { newIds: [...this.#newIds] }),
      ...(job.toldPrompt && { forcedIds: [...job.toldPrompt] }),
    };
  }

  /**
   * Book `tokens` of a step that is being sent.
   *
   * @param draftRoom drafts that the step has room for
   * @returns what else its row says
   */
  plan(tokens: number, draftRoom = 0): RowParts {
    if (this.promptLeft > 0) {
      assert(tokens <= this.promptLeft, `${tokens} prompt tokens planned of ${this.promptLeft}`);
      this.promptLeft -= tokens;
    } else {
      assert(tokens === 1 && this.decodesLeft > 0, 'a decode is one token, within the budget');
      this.decodesLeft--;
    }
    if (this.promptLeft > 0) return {};
    if (this.#masksFollow) return this.#planAhead();
    if (this.runsAhead) return {};
    this.#isChoosing = true;
    const draftIds = this.#guess(draftRoom);
    return {
      ...(this.#mask !== null && !this.tellsPrompt && { mask: this.#mask }),
      ...(draftIds.length > 0 && { draftIds }),
    };
  }

  #planAhead(): RowParts {
    const isFirst = this.#rowsAhead === 0;
    this.#rowsAhead++;
    if (!isFirst) return { maskFollows: true };
    assert(this.#mask, 'it is in a step when the mask is there, or a row before it is in one');
    this.#isMaskTold = true;
    return { mask: this.#mask };
  }

  #guess(room: number): number[] {
    if (this.#drafts === null) return [];
    // The row's own token is one of those that are left.
    const most = Math.min(this.mostDrafts, room, this.job.maxNewTokens - this.newTokens - 1);
    if (most <= 0) return [];
    const told = this.job.toldPrompt?.slice(this.newTokens, this.newTokens + most) ?? [];
    // The token behind the last draft is the answer's, and has a mask: those do not go together.
    if (this.job.constraint !== null) return told.slice(0, this.#toldTokens - this.newTokens - 1);
    return told.length > 0 ? told : this.#drafts.guess([...this.job.promptIds, ...this.#newIds], most);
  }

  /**
   * All tokens of a row have been appended, or those up to its end: of a drafted one there may have been several, and its rows count where
   * they stay behind, too.
   */
  rowApplied(): void {
    const hasMasks = this.job.constraint !== null && this.newTokens > this.#toldTokens;
    if (!this.#isChoosing || hasMasks) return;
    this.#isChoosing = false;
    this.decodesLeft = this.job.maxNewTokens - this.newTokens;
  }

  /** Take a token: an event on the stream, and the end if it is one. @param finish what the workers say behind it */
  append(token: ChosenToken, finish: Finish, nowMs: number): void {
    assert(this.finish === null, 'only a running sequence gets a token');
    const { tokenId } = token;
    const { tellsPrompt } = this;
    if (this.job.toldPrompt && this.newTokens === 0) this.#tellPrompt(this.job.promptIds[0]!, null);
    this.#newIds.push(tokenId);
    if (tellsPrompt) {
      this.#tellPrompt(tokenId, token);
      if (finish === Finish.LENGTH) this.#end('length', '');
      return;
    }
    this.job.firstTokenAtMs ??= nowMs;
    const { includeStopString, logprob } = this.#request;
    const isEnd = finish === Finish.END_ID;
    const piece = isEnd && !includeStopString ? '' : this.#detokenizer.push(tokenId);
    const { text, stopped } = this.#stops.push(piece);
    this.#generatedText += text;
    this.job.stream.push({
      kind: 'token',
      tokenId,
      text,
      special: this.#texts.isSpecial(tokenId),
      logprob: logprob ? token.logprob : Number.NaN,
      topLogprobs: this.#alternatives(token, this.#request.topLogprobs),
      ...(logprob && { own: this.#ownText(tokenId) }),
    });
    if (stopped) this.#end('stop-string', '');
    else if (isEnd) this.#endWithHeldBack('end-id');
    else if (finish === Finish.LENGTH) this.#endWithHeldBack('length');
    else if (this.job.constraint !== null) this.#awaitMask(nowMs);
  }

  #awaitMask(nowMs: number): void {
    this.#isChoosing = false;
    if (this.#rowsAhead > 0) this.#rowsAhead--;
    this.#isMaskTold = false;
    const mask = this.job.constraint!.maskAfter(this.#newIds.slice(this.#toldTokens));
    this.#mask = mask instanceof Promise ? null : mask;
    if (!(mask instanceof Promise)) return;
    this.#maskAskedAtMs = nowMs;
    mask.then(
      (come) => {
        this.#mask = come;
        this.#maskAskedAtMs = null;
        this.onMask();
      },
      (error: unknown) => this.job.cancel(ServingError.from(error)),
    );
  }

  /** Give out the text that waited for more tokens: an incomplete character, the beginning of a stop string. */
  #endWithHeldBack(reason: FinishReason): void {
    const last = this.#stops.push(this.#detokenizer.flush());
    if (last.stopped) this.#end('stop-string', last.text);
    else this.#end(reason, last.text + this.#stops.flush());
  }

  #end(reason: FinishReason, text: string): void {
    this.finish = reason;
    this.#generatedText += text;
    this.job.stream.push({
      kind: 'finish',
      reason,
      text,
      generatedText: this.#generatedText,
      promptTokens: this.job.promptIds.length + this.#toldTokens,
      cachedTokens: this.job.tellsCached ? this.cachedTokens : 0,
      newTokens: this.newTokens - this.#toldTokens,
      seed: this.job.seed,
      ...stoppedBy(this.#request, reason, this.#stops.found, this.#newIds.at(-1)),
    });
    this.job.stream.end();
  }

  get #toldTokens(): number {
    return this.job.toldPrompt?.length ?? 0;
  }

  #tellPrompt(tokenId: number, chosen: ChosenToken | null): void {
    this.job.stream.push({
      kind: 'prompt-token',
      tokenId,
      own: this.#ownText(tokenId),
      logprob: chosen?.logprob ?? Number.NaN,
      topLogprobs: chosen === null ? [] : this.#alternatives(chosen, this.#request.promptLogprobs ?? 0),
    });
  }

  #ownText(id: number): TokenText {
    const text = this.#texts.tokenText(id);
    return { text, bytes: [...(this.#texts.tokenBytes?.(id) ?? Buffer.from(text))] };
  }

  #alternatives({ topLogprobs }: ChosenToken, count: number): TokenAlternative[] {
    return topLogprobs
      .slice(0, count)
      .map(({ tokenId, logprob }) => ({ tokenId, ...this.#ownText(tokenId), logprob }));
  }
}
