/** What fits, what does not, and what the message says. */
import { describe, expect, it } from 'vitest';
import { admitNewTokens } from '../../../../../server/engines/llm/admission.js';

const limits = { slotTokens: 512, kvTokens: 4096 };

describe('admission', () => {
  it('gives what was asked for, up to the last position', () => {
    expect(admitNewTokens(500, 12, limits)).toBe(12);
    expect(admitNewTokens(1, 511, limits)).toBe(511);
  });

  it('gives the rest of the context when nothing was asked for', () => {
    expect(admitNewTokens(100, null, limits)).toBe(412);
    expect(admitNewTokens(511, null, limits)).toBe(1);
  });

  it("gives the model's usual number when nothing was asked for, or what is left", () => {
    expect(admitNewTokens(100, null, limits, 50)).toBe(50);
    expect(admitNewTokens(500, null, limits, 50)).toBe(12);
    expect(admitNewTokens(100, 60, limits, 50)).toBe(60);
  });

  it('refuses a prompt that leaves no room, and names limit and length', () => {
    expect(() => admitNewTokens(512, null, limits)).toThrow(/context length is 512 tokens.*prompt has 512/);
    expect(() => admitNewTokens(9000, 1, limits)).toThrow(/prompt has 9000/);
  });

  it('refuses more new tokens than there is room for, and says how many there are', () => {
    expect(() => admitNewTokens(500, 13, limits)).toThrow(
      /513 were requested \(500 in the prompt, 13 new\).*at most 12/,
    );
  });

  it('refuses an empty prompt', () => {
    expect(() => admitNewTokens(0, 5, limits)).toThrow(/prompt is empty/);
  });

  it('counts the KV memory where it is the smaller limit', () => {
    const small = { slotTokens: 512, kvTokens: 128 };
    expect(admitNewTokens(100, null, small)).toBe(28);
    expect(() => admitNewTokens(100, 29, small)).toThrow(/KV memory holds 128 tokens.*kv_cache_memory_mb/);
  });

  it('throws the codes that transports map', () => {
    const codeOf = (run: () => unknown) => {
      try {
        run();
      } catch (error) {
        return (error as { code: string }).code;
      }
      return null;
    };
    expect(codeOf(() => admitNewTokens(512, null, limits))).toBe('PROMPT_TOO_LONG');
    expect(codeOf(() => admitNewTokens(1, 512, limits))).toBe('PROMPT_TOO_LONG');
    expect(codeOf(() => admitNewTokens(0, 1, limits))).toBe('BAD_REQUEST');
  });
});
